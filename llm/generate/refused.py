"""Day 64 · Refused: how a server says no, and the two checks that say it most often.

OpenAI's clients show `message`, and programs look at `type`, `param` and `code`.
Source: OpenAI, API reference, "Error codes".
"""


class Refused(Exception):
    """An answer of 4xx or 5xx, in OpenAI's form: status, message, and which parameter was wrong."""

    def __init__(self, status, message, param=None, code=None, kind="invalid_request_error",
                 headers=None):
        super().__init__(message)
        self.status, self.headers = status, headers or {}
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def number(body, key, low, high, default, whole=False):
    """A number in [low, high], or the default where there is none."""
    value = body.get(key)
    if value is None:
        return default
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        raise Refused(400, f"{key} must be a {'whole ' if whole else ''}number from {low} to "
                           f"{high}, not {str(value)[:40]!r}", key)
    return value


def flag(body, key):
    """A truth value; False where there is none."""
    if not isinstance(value := body.get(key) or False, bool):
        raise Refused(400, f"{key} must be true or false, not {str(value)[:40]!r}", key)
    return value
