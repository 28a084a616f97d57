"""The error family and the exit codes that every command of the project shares."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable

EXIT_OK = 0
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message is one sentence: what was expected, what came, and how to mend it.
    """


def command(run: Callable[[list[str] | None], int]) -> Callable[[list[str] | None], int]:
    """Wrap a command's ``main(argv) -> exit code`` so that it ends in sentences, not tracebacks.

    `InputError` and the operating system's own refusals (missing file, no permission, disk full) become
    one line on stderr and exit code 2; Ctrl-C becomes exit code 130. Anything else is a bug of ours and
    keeps its traceback.
    """

    @functools.wraps(run)
    def wrapped(argv: list[str] | None = None) -> int:
        try:
            code = run(argv)
            sys.stdout.flush()  # what the reader does not want is known now, and not when Python ends
            return code
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_BAD_INPUT
        except BrokenPipeError:  # the reader (`| head`) has seen enough
            _drop_output()
            return EXIT_OK
        except OSError as error:
            print(f"error: {describe_os_error(error)}", file=sys.stderr)
            return EXIT_BAD_INPUT
        except KeyboardInterrupt:
            print("interrupted: what was finished is kept", file=sys.stderr)
            return EXIT_INTERRUPTED

    return wrapped


def _drop_output() -> None:
    """Send what is still buffered nowhere: Python would complain of the broken pipe once more at its end."""
    with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def describe_os_error(error: OSError) -> str:
    """Say in one line what the operating system refused, and for which file."""
    what = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {what}" if error.filename else what
