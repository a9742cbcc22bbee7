"""Configuration: options from a TOML file and from environment variables."""
