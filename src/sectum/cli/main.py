"""The command line's entry point."""

from __future__ import annotations

import sys

import click

from sectum import __version__
from sectum.cli.advise.command import advise
from sectum.cli.calibrate.command import calibrate
from sectum.cli.command_group import CommandGroup
from sectum.cli.dataset.command import dataset
from sectum.cli.evaluate.command import evaluate
from sectum.cli.exit_codes import exit_codes, report_defect
from sectum.cli.hetee.command import hetee
from sectum.cli.measure.command import measure
from sectum.cli.plan.command import plan
from sectum.cli.predict.command import predict
from sectum.cli.profiles.command import profiles
from sectum.cli.report.command import report
from sectum.cli.run.command import run
from sectum.cli.search.command import search
from sectum.cli.study.command import study
from sectum.cli.zoo.command import zoo

_EXIT_CODES = "\n".join(f"  {code:>3}  {meaning}" for code, _, meaning in exit_codes())
_EPILOG = f"""\b
Example:
  sectum predict zoo:resnet50 --epc 93MiB

\b
Exit codes:
{_EXIT_CODES}
"""


@click.group(
    cls=CommandGroup,
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="sectum %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Predict, measure and explain what a neural network costs inside a trusted execution environment."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


cli.add_section("Commands", predict, measure, plan, run, advise, search, report, calibrate, profiles, zoo)
cli.add_section("Research", dataset, study, evaluate)
cli.add_section("Confidential inference service", hetee)


def main() -> None:
    """Run ``sectum`` and exit with a documented code."""
    sys.excepthook = report_defect
    cli.main()
