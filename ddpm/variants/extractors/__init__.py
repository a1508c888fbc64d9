"""Feature extractors: ``evaluate.extractors``. Contract: ``ddpm.scoring.extractor``."""
