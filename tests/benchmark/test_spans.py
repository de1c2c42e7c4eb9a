from __future__ import annotations

import pytest

from sb3_alignsam.benchmark.spans import Span, seconds_inside, watched


class _Base:
    def add(self, a, b=0):
        if b < 0:
            raise ValueError("too small")
        return a + b


class _Derived(_Base):
    pass


def test_calls_of_a_class_are_noted_and_answered_as_before():
    with watched(_Derived, "add") as spans:
        assert _Derived().add(1, b=2) == 3
        with pytest.raises(ValueError, match="too small"):
            _Derived().add(1, -1)
        assert _Base().add(1) == 1
    assert len(spans) == 2
    assert all(span.end >= span.start for span in spans)
    assert "add" not in vars(_Derived)
    assert _Derived().add(2) == 2
    assert len(spans) == 2


def test_a_method_of_the_class_itself_is_put_back():
    before = _Base.add
    with watched(_Base, "add"):
        assert _Base.add is not before
    assert _Base.add is before


def test_what_began_inside_counts():
    spans = [Span(0, 1), Span(2, 3), Span(4, 6), Span(7, 8)]
    assert seconds_inside(spans, Span(2, 7)) == 3
