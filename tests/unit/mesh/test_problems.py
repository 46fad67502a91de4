from __future__ import annotations

from mesh.problems import Problem, sentence


def test_a_problem_is_told_in_sentences_that_end_once() -> None:
    asked = Problem("X", "error", "spec.a", "did you mean `b`?", "read this. Then mend it.")
    assert str(asked) == "error [X] spec.a: did you mean `b`? Fix: read this. Then mend it."
    assert str(Problem("X", "warning", "", "odd", "mend it", "f.yaml", 3)) == "f.yaml:3: warning [X] odd. Fix: mend it."


def test_a_sentence_gets_a_full_stop_only_where_it_has_no_end() -> None:
    assert [sentence(text) for text in ("a", "a.", "a?", "a!")] == ["a.", "a.", "a?", "a!"]
