"""What the surveys of the field list: their taxonomy, each leaf with its page and the methods seen under it."""

from lightvit_lab.survey.leaves import Leaf, Method, taxonomy, unplaced

__all__ = ["Leaf", "Method", "taxonomy", "unplaced"]
