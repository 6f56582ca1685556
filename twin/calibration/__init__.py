"""Fits the step model to measurements, and says how well it predicts them."""

from twin.calibration.cross_validation import Scheme, cross_validate
from twin.calibration.fitted import Fitted, catalogue_text, with_shipped
from twin.calibration.kinds import calibrate, validate
from twin.calibration.prediction import Prediction, Refusal, Validation, metrics, metrics_text
from twin.calibration.table import read_table

__all__ = [
    "Fitted",
    "Prediction",
    "Refusal",
    "Scheme",
    "Validation",
    "calibrate",
    "catalogue_text",
    "cross_validate",
    "metrics",
    "metrics_text",
    "read_table",
    "validate",
    "with_shipped",
]
