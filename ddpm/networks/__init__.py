"""The modules of the networks in ddpm/variants/networks, which build them: torch is imported here, and not there."""
