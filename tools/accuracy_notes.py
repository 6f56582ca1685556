"""What we think of rows that are predicted worst: by patterns of their names, the first that fits counts."""

from __future__ import annotations

import re

_NOTES: tuple[tuple[str, str], ...] = (
    (
        r"qwen3_32b_nvfp4_gb200_trtllm_agg_15000x500_c448",
        "Mislabelled: 448 prompts of 15,000 tokens are 6.7 million, which two GPUs cannot compute in the second that "
        "the row says everyone waits. The requests were spread over more instances, or came at a rate.",
    ),
    (
        r"gpt_oss_120b_h100_sxm_vllm_fp4_agg_.*_c512",
        "An engine of its own version and setting: its four rows say that about 100 of 512 requests were served at a "
        "time. The rule for that (128) is read off them, so a part of it is chance; TP 2 and TP 4 differ by more than "
        "other versions do.",
    ),
    (
        r"disagg_\d+x\d+_c_tp",
        "The row says no concurrency; as many requests as the decode batches hold were taken. The pools it names do not "
        "balance under that, so its clients must have been fewer or more.",
    ),
    (
        r"tpot .*_\d+x100_c",
        "Answers of 100 tokens behind prompts of thousands: most of their time per token is other requests' prompts, "
        "and how many of those join a step is not in the row.",
    ),
    (
        r"qwen3_235b_a22b_fp8.*1000x100",
        "Answers of 100 tokens: most of their time per token is other requests' prompts, and how many of those join a "
        "step is not in the row.",
    ),
    (
        r"ttft .*_8192x1024_c(4|8|16|32|64)_cfg53",
        "With the prefill instances that the row names prompts would queue; no wait was measured, so there were more of them or "
        "prompts were found in a cache.",
    ),
    (
        r"ttft .*llama_3_1_70b_h[12]00_sxm_(vllm|trtllm)_fp8_agg_.*_tp1_",
        "70 GB of weights on one GPU: what is left for KV is just about what the requests need, so a few percent more "
        "or less are the difference between a queue and none.",
    ),
    (
        r"sglang_fp4_disagg_1024x1024_c8192_cfg483",
        "At 8,192 in flight requests waited ten times as long as at 4,096, and decoded no slower: the decode side took in fewer "
        "at once than it has room for, a limit that the row does not say.",
    ),
    (
        r"ttft .*disagg",
        "Prefill near its limit: the queue before it goes with one over the rest, so a few percent of step time are a "
        "factor in the wait.",
    ),
    (
        r"ttft .*llama_3_1_8b_instruct.*sglang",
        "SGLang's host work sets the pace of so small a model (about 30 ms a step whatever the batch), and overlaps "
        "with prompts more than its share fitted on larger models.",
    ),
    (
        r"ttft .*(deepseek_r1|dsr1).*agg_.*_tp4",
        "KV memory is just about full: whether a request waits for a whole answer or for none is decided by a few percent of it.",
    ),
    (
        r"mtp|deepseek_r1.*trtllm_(fp8|fp4)_agg",
        "Campaigns with and without speculation share their labels; which rows drafted is taken from the change log.",
    ),
)


def note_of(row: str, figure: str) -> str:
    """The note on a row's error in a figure ("tpot" or "ttft"), or that there is none."""
    for pattern, note in _NOTES:
        if re.search(pattern, f"{figure} {row}"):
            return note
    return "unexplained"
