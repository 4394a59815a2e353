"""The command line's entry point."""

from __future__ import annotations

import sys

import click

from sectum import __version__
from sectum.cli.commands.calibrate import calibrate
from sectum.cli.commands.dataset import dataset
from sectum.cli.commands.evaluate import evaluate
from sectum.cli.commands.measure import measure
from sectum.cli.commands.predict import predict
from sectum.cli.commands.profiles import profiles
from sectum.cli.commands.report import report
from sectum.cli.commands.study import study
from sectum.cli.commands.zoo import zoo
from sectum.cli.door import Door, exit_code_lines, report_defect
from sectum.cli.hetee import hetee

_EPILOG = f"""\b
Example:
  sectum predict zoo:resnet50 --epc 93MiB

\b
Exit codes:
{exit_code_lines()}
"""


@click.group(
    cls=Door,
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="sectum %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Tell what a neural network costs inside a trusted execution environment.

    Predicted in a moment, measured where that is possible, and explained.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for _command in (predict, measure, report, calibrate, profiles, zoo, dataset, study, evaluate, hetee):
    cli.add_command(_command)


def main() -> None:
    """Run ``sectum`` and leave with a documented exit code."""
    sys.excepthook = report_defect
    cli.main()
