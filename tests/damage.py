"""What may happen to a file, drawn by hypothesis."""

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st


def fuzz(examples):
    """The same inputs each time; a hang is seen by the suite's own limit."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # finding the smallest takes minutes
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damage(draw):
    """What may happen to a file: (kind, where in it, from 0 to 1, number)."""
    kind = draw(st.sampled_from(["cut", "flip", "zeros", "insert", "lose", "repeat"]))
    return kind, draw(st.floats(0, 1)), draw(st.integers(0, 255))


def spoil(path, kind, share, number):
    """Damages a file."""
    content = path.read_bytes()
    at = min(int(share * len(content)), max(0, len(content) - 1))
    rest = content[at + 1 :]
    if kind == "lose":
        path.unlink()
    else:
        path.write_bytes(
            content[:at]
            + {
                "cut": b"",
                "flip": bytes([content[at] ^ (1 << number % 8)]) + rest if content else b"",
                "zeros": bytes(min(number, len(content) - at)) + content[at + number :],
                "insert": bytes([number]) + content[at:],
                "repeat": content[max(0, at - number) :],
            }[kind]
        )
