"""Flags of earlier versions, under their names and spellings of today."""


def renamed(name: str, value: str) -> tuple[str, str]:
    """A flag of config.flags, by name and value, as this version spells it."""
    if name == "embedding_source":
        return "detect_with", {"pass": "encoder"}.get(value, value)
    return {"loss": "treatment"}.get(name, name), value
