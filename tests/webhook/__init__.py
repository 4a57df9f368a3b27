"""The webhook channel over real connections."""
