"""params.yaml: read, checked, described; it composes the settings of all rooms."""
