"""The error family and the exit codes that every command of the project shares."""

from __future__ import annotations

import contextlib
import errno
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


_MENDS = {
    errno.ENOSPC: "free some space there and repeat the command",
    errno.EDQUOT: "free some space there and repeat the command",
    errno.EACCES: "name a place that you may use, or change its permissions",
    errno.EPERM: "name a place that you may use, or change its permissions",
    errno.EROFS: "name a place that can be written",
    errno.ENOENT: "is the path right, and can folders be made there?",
    errno.ENOTDIR: "a part of the path is a file: name a folder",
    errno.ENAMETOOLONG: "take a shorter name",
}


def describe_os_error(error: OSError) -> str:
    """Say in one line what the operating system refused, for which file, and what mends it where that is
    known.
    """
    what = error.strerror or str(error) or type(error).__name__
    refused = f"{error.filename}: {what}" if error.filename else what
    mend = _MENDS.get(error.errno or 0)
    return f"{refused}; {mend}" if mend else refused
