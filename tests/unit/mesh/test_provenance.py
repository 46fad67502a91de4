from __future__ import annotations

from mesh.tables import Change, Engine, Input, Look, derived, each

COLOURS: Input[str, str] = Input("colours")
HOUSES: Input[str, str] = Input("houses")  # house → its colour's name
HOUSES_BY_COLOUR = HOUSES.index("colour", lambda _, colour: (colour,))


@derived("painted", each(HOUSES))
def PAINTED(key: str, look: Look) -> str | None:  # noqa: N802
    """A house in its colour."""
    colour = look(HOUSES, key)
    return f"{key} in {look(COLOURS, colour)}" if colour is not None else None


@derived("streets", each(COLOURS))
def STREETS(key: str, look: Look) -> tuple[str, ...]:  # noqa: N802
    """All houses of a colour."""
    return look.keys(HOUSES_BY_COLOUR, key)


@derived("signs", each(PAINTED))
def SIGNS(key: str, look: Look) -> str:  # noqa: N802
    """A sign on each painted house."""
    return f"[{look(PAINTED, key)}]"


def engine() -> Engine:
    made = Engine([COLOURS, HOUSES, PAINTED, STREETS, SIGNS])
    made.commit([Change(COLOURS, name, name.upper()) for name in ("red", "blue")])
    made.commit([Change(HOUSES, house, colour) for house, colour in (("a", "red"), ("b", "red"), ("c", "blue"))])
    return made


def test_rows_are_found_through_the_rows_between() -> None:
    assert engine().dependents(COLOURS, "red", among=frozenset({SIGNS})) == ["a", "b"]


def test_rows_are_found_through_groups_that_were_read() -> None:
    assert engine().dependents(HOUSES, "a", among=frozenset({STREETS})) == ["red"]


def test_what_was_never_read_has_no_dependents() -> None:
    assert engine().dependents(COLOURS, "green", among=frozenset({SIGNS, STREETS})) == []


def test_dependents_are_the_other_direction_of_origins() -> None:
    made = engine()
    for table in (SIGNS, STREETS):
        for key in made.rows(table):
            for start, origins in made.origins(table, key).items():
                for origin in origins:
                    assert key in made.dependents(start, origin, among=frozenset({table}))
