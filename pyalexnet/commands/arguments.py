"""The commands' arguments: parsing, help, and answers to those that other tools have."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pyalexnet.text import nearest, printable, version

ERROR = 2  # exit status

_WIDTH, _INDENT = 80, 27  # of the help, and of what it says of an option

#: What to use instead of options of torchvision, timm, PyTorch's ImageNet example and Caffe. Only
#: those that `nearest` does not find.
FOREIGN = {
    "--data": "data-path data-dir dataset root source",
    "--net": "arch a model network architecture",
    "--recipe": "solver config cfg c",
    "--image-size": "img-size input-size size val-resize-size image-dim",
    "--batch-size": "bs train-batch-size test-batch-size",
    "--epochs": "max-epoch num-epochs max-iter iterations steps",
    "--lr": "learning-rate base-lr rate eta",
    "--bias-lr": "bias-rate",
    "--schedule": "lr-scheduler lr-policy lr-step-size lr-steps lr-gamma lr-min lr-decay "
    "lr-warmup-epochs sched stepsize step-size gamma decay-epochs decay-rate decay-milestones "
    "patience-epochs warmup-epochs min-lr",
    "--dropout": "drop drop-rate",
    "--crop-pad": "crop-pct padding train-crop-size val-crop-size",
    "--mirror": "hflip horizontal-flip flip",
    "--no-mirror": "no-hflip no-flip",
    "--colour-noise": "color-jitter colour-jitter color-noise pca-noise lighting",
    "--views": "tta ten-crop five-crop crops n-crops oversample multiview-test",
    "--output": "o out save save-dir checkpoint-dir experiment snapshot-prefix",
    "--resume": "snapshot load restore continue start-epoch initial-checkpoint checkpoint weights",
    "--test-only": "evaluate evaluate-only e eval test validate",
    "--device": "devices gpu gpus gpu-id num-gpu cuda no-cuda cpu host",
    "--threads": "num-threads cores",
    "--workers": "num-workers n-workers processes",
    "--seed": "random-seed manual-seed",
    "--quiet": "no-progress silent print-freq p log-interval display",
    "--verbose": "progress debug",
    "--topk": "k top n",
    "--csv": "results-file output-file",
    "--per-class": "confusion confusion-matrix by-class",
    "none, as the checkpoint is an argument without an option": "checkpoint weights m load "
    "snapshot initial-checkpoint model-path resume",
    "none: the output has all that there is": "verbose v",
    "none: the optimiser is SGD": "opt optimizer optimiser solver-type",
    "none: all arithmetic is in float32": "amp fp16 bf16 half precision",
    "mpirun -n R pyalexnet-train": "world-size dist-url dist-backend rank local-rank "
    "nproc-per-node distributed multiprocessing-distributed",
}


class Parser(argparse.ArgumentParser):
    """A command's parser. Mistakes are one line; an unknown option is answered by one there is.

    Parameters
    ----------
    prog : str
    words : str
        What stands behind the command's name: "CHECKPOINT... [OPTION ...]".
    about : str
        What the command does.
    examples : dict of str to str
        Arguments, and what they do.
    **more
        As for `argparse.ArgumentParser`.
    """

    def __init__(
        self, prog: str, words: str, about: str, examples: dict[str, str], **more: Any
    ) -> None:
        lines = [f"{prog} {given}".rstrip() for given in examples]
        width = max(map(len, lines))
        shown = [
            f"  {line:{width}}  {does}".rstrip()
            for line, does in zip(lines, examples.values(), strict=True)
        ]
        super().__init__(
            prog,
            usage=f"{prog} {words}",
            description="\n".join([*shown, "", about]),
            formatter_class=_Help,
            allow_abbrev=False,
            add_help=False,
            **more,
        )
        self._words = words

    def add_others(self, *, quiet: str, verbose: str = "") -> None:
        """Adds --quiet, --version, --help and, if there is something to say, --verbose."""
        add = self.add_argument_group("other").add_argument
        add("-q", "--quiet", action="store_true", help=quiet)
        if verbose:
            add("-v", "--verbose", action="store_true", help=verbose)
        suppressed = argparse.SUPPRESS
        add("--version", action=_Version, nargs=0, default=suppressed, help="print the version")
        add("-h", "--help", action="help", help="print this")

    def options(self, arguments: Sequence[str] | None = None) -> dict[str, Any]:
        """The arguments, by default the process's, by their names; SystemExit after a mistake."""
        words = sys.argv[1:] if arguments is None else list(arguments)
        self._check_given(words)
        for word in words:
            if word == "--":
                break
            self._check(word)
        return vars(self.parse_intermixed_args(words))

    def error(self, message: str) -> NoReturn:
        """Ends the command with status 2 and one line."""
        self.exit(ERROR, f"{self.prog}: error: {printable(self._reworded(message))}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """As in the base class, which says nothing where that fails."""
        if message:
            print(message, end="", file=file or sys.stderr, flush=True)

    def _check_given(self, words: list[str]) -> None:
        """Ends the command if a value is empty, such as an unset variable of a shell."""
        for before, word in zip(["", *words], words, strict=False):
            option, equals, value = word.partition("=")
            if not word:
                action = self._option_string_actions.get(before)
                option = before if action is not None and action.nargs != 0 else "argument"
            elif value or not equals or option not in self._option_string_actions:
                continue
            self.error(f"{option.lstrip('-')} is ''; expected a value")

    def _check(self, word: str) -> None:
        """Ends the command if a word looks like an option and is none."""
        known = self._option_string_actions
        option = word.partition("=")[0]
        if not re.match(r"--?[^\W\d]", option) or " " in option or option in known:
            return
        long = f"-{option}"  # as in -lr
        if not option.startswith("--") and long not in known and option[:2] in known:
            return  # as in -b64
        expected = long if long in known else self._nearest(option)
        if expected:
            self.error(f"{option} is unknown; expected {expected}")
        self.error(f"{option} is unknown; {self.prog} --help lists the options")

    def _nearest(self, option: str) -> str | None:
        """What to use instead of an option that there is not."""
        name = option.lstrip("-").lower().replace("_", "-")
        for ours, others in FOREIGN.items():
            if name in others.split() and (ours in self._option_string_actions or ours[0] != "-"):
                return ours
        long = (known[2:] for known in self._option_string_actions if known.startswith("--"))
        found = nearest(name, long)
        return f"--{found}" if found else None

    def _reworded(self, message: str) -> str:
        """An error of argparse in the form of all others."""
        if found := re.fullmatch(r"argument (\S+): (.*)", message, re.S):
            names, problem = found[1].split("/"), found[2]
            option = names[0] if names[-1].startswith("--no-") else names[-1]
            if problem.startswith("expected"):
                return f"{option} has no value; expected one"
            if problem.startswith("ignored explicit argument"):
                return f"{option} has the value {problem.split()[-1]}; expected none"
            if other := re.fullmatch("not allowed with argument (.*)", problem):
                return f"{option} and {other[1]} are both given; expected one of them"
            return f"{option.lstrip('-')} {problem}"
        if found := re.fullmatch("the following arguments are required: (.*)", message):
            return f"{found[1]} missing; expected {self.prog} {self._words}"
        if found := re.fullmatch("unrecognized arguments: (.*)", message):
            word = found[1].split()[0]
            also = f", as in --data {word}" if Path(word).is_dir() else " before it"
            return f"argument is {word!r}; expected an option{also}"
        return message


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help for 80 columns, with an option's value written once."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_INDENT, width=_WIDTH)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        names = list(action.option_strings)
        if not names:
            return super()._format_action_invocation(action)
        if isinstance(action, argparse.BooleanOptionalAction):
            return f"--[no-]{names[0][2:]}"
        value = ""
        if action.nargs != 0:
            value = " " + self._format_args(action, (action.dest or "").upper())
        return f"{', '.join(names)}{value}"


class _Version(argparse.Action):
    """Prints the version, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
        parser._print_message(f"pyalexnet {version()}\n", sys.stdout)
        parser.exit()


def whole(text: str) -> int:
    """The type of an option that is a whole number."""
    with _naming(text, "a whole number"):
        return int(text)


def real(text: str) -> float:
    """The type of an option that is a number."""
    with _naming(text, "a number"):
        return float(text)


@contextlib.contextmanager
def _naming(text: str, expected: str) -> Iterator[None]:
    try:
        yield
    except ValueError:
        raise argparse.ArgumentTypeError(f"is {text!r}; expected {expected}") from None


def one_of(*names: str) -> Callable[[str], str]:
    """The type of an option that is one of these names."""

    def check(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"is {text!r}; expected one of {', '.join(names)}")
        return text

    return check
