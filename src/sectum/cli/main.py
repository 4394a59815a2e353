"""The command line's entry point."""

from __future__ import annotations

import sys

import click

from sectum import __version__
from sectum.cli.calibrate.command import calibrate
from sectum.cli.dataset.command import dataset
from sectum.cli.door import Door, exit_code_lines, report_defect
from sectum.cli.evaluate.command import evaluate
from sectum.cli.hetee.command import hetee
from sectum.cli.measure.command import measure
from sectum.cli.predict.command import predict
from sectum.cli.profiles.command import profiles
from sectum.cli.report.command import report
from sectum.cli.study.command import study
from sectum.cli.zoo.command import zoo

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
