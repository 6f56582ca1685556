"""With `admission: answers` an instance promises room for whole answers; across instances each promises its own."""

from __future__ import annotations

from engine_parts import Site, request, worker


def test_a_promise_ends_where_the_answer_does() -> None:
    """Room for three answers at a time on each side: thirty requests pass, and nothing stays promised behind them."""
    limits = {"kv_capacity_tokens": 4_000, "reserve_answers": True}
    site = Site(worker("p-0", "prefill", **limits), worker("d-0", "decode", **limits))
    for number in range(30):
        site.at(0.1 * number, site.door.accept, request(number, 1_000, 200, arrival_s=0.1 * number))
    site.run()
    assert len(site.finished) == 30
    assert [station.worker.memory.promised_tokens for station in site.door.stations] == [0, 0]
    assert [station.worker.memory.pinned_tokens for station in site.door.stations] == [0, 0]
