"""`penjing recipes`: what recipes there are, what is in them, and one to begin with."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from penjing.cli import completions
from penjing.cli.console import print_json
from penjing.cli.narrow_help import NarrowCommand, NarrowGroup
from penjing.cli.shared_options import JsonOption
from penjing.recipes.recipe_text import (
    check_keys,
    packaged_recipes,
    read_recipe,
    read_recipe_text,
)
from penjing.report.fitting_table import print_table
from penjing.report.tables import names, new_table, notes

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE",
        help="Packaged recipe, or a TOML file.",
        autocompletion=completions.recipes,
    ),
]
BaseArgument = Annotated[
    str,
    typer.Argument(
        metavar="[NAME|FILE]",
        help="The recipe whose settings it begins with.",
        autocompletion=completions.recipes,
    ),
]
recipes = typer.Typer(
    cls=NarrowGroup,
    help="""List the packaged recipes, show one, or begin one of your own.

    A recipe says what is done to a model: how it is trained, by which methods,
    and which files are written. `penjing compress --recipe` takes a name or a
    file, and --set changes single keys of it.

    [bold]Examples[/bold]

        $ penjing recipes
        $ penjing recipes show smallest
        $ penjing recipes new > my.toml
        $ penjing recipes keys
    """,
    rich_markup_mode="rich",
    invoke_without_command=True,
)


@recipes.callback()
def _list(context: typer.Context, as_json: JsonOption = False) -> None:
    if context.invoked_subcommand is not None:
        return
    rows = [read_recipe(name)[0] for name in packaged_recipes()]
    if as_json:
        keys = ("name", "description")
        print_json(
            {"recipes": [{key: row.get(key, "") for key in keys} for row in rows]}
        )
        return
    table = new_table("Packaged recipes", names("name"), notes("description"))
    for row in rows:
        table.add_row(row["name"], escape(row.get("description", "")))
    print_table(table, Console())


@recipes.command(cls=NarrowCommand)
def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Print a recipe as it is in its file.

    [bold]Examples[/bold]

        $ penjing recipes show smallest
        $ penjing recipes show smallest > my.toml
        $ penjing recipes show my.toml --json
    """
    table, where = read_recipe(name)
    if as_json:
        check_keys(table, where)
        print_json(table)
        return
    typer.echo(read_recipe_text(name)[0], nl=False)


@recipes.command(cls=NarrowCommand)
def new(name: BaseArgument = "default") -> None:
    """Print a recipe to begin with, in which every key is explained.

    What it does not set is commented out, with the default or an example. It loads
    as it is, and with any one comment taken away.

    [bold]Examples[/bold]

        $ penjing recipes new > my.toml
        $ penjing recipes new smallest > my.toml
    """
    from penjing.recipes.commented_recipe import commented_recipe

    table, where = read_recipe(name)
    check_keys(table, where)
    typer.echo(commented_recipe(table, name), nl=False)


@recipes.command(cls=NarrowCommand)
def keys(as_json: JsonOption = False) -> None:
    """Print every key of a recipe: meaning, values, default.

    [bold]Examples[/bold]

        $ penjing recipes keys
        $ penjing recipes keys --json
    """
    from penjing.recipes.keys_page import keys_page
    from penjing.recipes.recipe_text import read_known_keys

    if as_json:
        print_json(read_known_keys())
    else:
        typer.echo(keys_page(), nl=False)
