"""One text of a prompt, compiled: literals and plain variables are joined, anything more is minijinja's.

Values are data: they are inserted as they are, never escaped, never read as a template. What a render may cost is
bounded before it runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from minijinja import Environment, TemplateError, pass_state

from routes.syntax import Fault, Reading, Ref, oversized, read

MAX_OUTPUT = 1024 * 1024  # characters of a rendered prompt; longer is a mistake or an attack
# What filters and tests may do in one render: a filter on an ASCII character is 1, of upper and lower case 3, on
# others three times that. 1 is some 5 ns, so this is some 10 ms of the event loop's time.
MAX_WORK = 2 * 1024 * 1024
MAX_JSON = (
    512 * 1024
)  # characters that one render may make JSON of: it is slow, and each time round doubles the quotes
FUEL = 100_000  # the engine's own step limit; `syntax` allows nothing that could come near

Scalar = str | int | float | bool | None


class RenderError(ValueError):
    """A prompt cannot be rendered with these variables. The message names no value."""


class MissingVariable(RenderError):
    def __init__(self, name: str) -> None:
        super().__init__(f"the prompt's variable `{name}` has no value")
        self.name = name


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled text. `engine` is None where joining `parts` is all there is to do."""

    parts: tuple[str | Ref, ...]
    names: tuple[str, ...] = ()  # the variables used, in order of first use
    work: Mapping[str, int] = field(default_factory=dict)  # per character of a variable
    engine: Environment | None = None

    @property
    def static(self) -> str | None:
        """The text, if no variable changes it."""
        return None if self.names or self.engine else "".join(part for part in self.parts if isinstance(part, str))

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the text. Raises `MissingVariable` or `RenderError`."""
        if self.engine:
            return self._by_engine(self.engine, values)
        texts = [part if isinstance(part, str) else _value(part.name, values) for part in self.parts]
        if sum(map(len, texts)) > MAX_OUTPUT:
            raise RenderError("the rendered prompt is too long")
        return "".join(texts)

    def length(self, values: Mapping[str, Any]) -> int:
        """Return the characters of the rendered text without building it where that can be avoided."""
        if self.engine:
            return len(self.render(values))
        return sum(len(part if isinstance(part, str) else _value(part.name, values)) for part in self.parts)

    def _by_engine(self, engine: Environment, values: Mapping[str, Any]) -> str:
        given = {name: scalar(name, values[name]) for name in self.names if name in values}
        texts = [(name, value) for name, value in given.items() if isinstance(value, str)]
        work = sum(len(value) * self.work.get(name, 0) * (1 if value.isascii() else 3) for name, value in texts)
        if work > MAX_WORK or any(len(value) > MAX_OUTPUT for _, value in texts):
            raise RenderError("a variable is too long for the prompt")
        try:
            return str(engine.render_template("", **given))
        except (TemplateError, TypeError, RenderError) as error:  # TypeError: a filter called with wrong arguments
            missing = next((name for name in self.names if name not in values), None)
            if missing is not None:
                raise MissingVariable(missing) from error
            reason = error.detail or error.message if isinstance(error, TemplateError) else error
            raise RenderError(f"the prompt cannot be rendered: {reason}") from error


def compile_template(source: str) -> tuple[Template | None, Reading]:
    """Compile a text; where it has faults there is no template."""
    if fault := oversized(source):
        return None, Reading(faults=[fault])
    engine = _engine()
    try:
        engine.add_template("", source)
    except TemplateError as error:
        return None, Reading(faults=[Fault("template-syntax", error.detail or error.message, error.line or 1)])
    found = read(source)
    if found.fixed > MAX_WORK:
        found.faults.append(Fault("template", "its own texts are too long for their filters", 1))
    if found.faults:
        return None, found
    if found.plain:
        return Template(tuple(found.parts), tuple(found.names)), found
    template = Template((), tuple(found.names), found.work, engine)
    if found.names:
        return template, found
    try:
        return Template((template.render({}),)), found
    except RenderError as error:
        return None, Reading(faults=[Fault("template", str(error), 1)])


def scalar(name: str, value: Any) -> Scalar:
    """Return the value if it is a JSON scalar. Raises `RenderError`."""
    if value is None or isinstance(value, str | int | float):
        return value
    raise RenderError(f"the variable `{name}` must be a text, a number, true, false or null")


def _value(name: str, values: Mapping[str, Any]) -> str:
    """Return a value's text, as minijinja would print it."""
    try:
        value = values[name]
    except KeyError:
        raise MissingVariable(name) from None
    if isinstance(value, str):
        return value
    if value is None:
        return "None"
    return _printed(scalar(name, value))  # type: ignore[arg-type]  # texts and None are dealt with above


def _engine() -> Environment:
    engine = Environment(
        undefined_behavior="strict",
        auto_escape_callback=_never,
        fuel=FUEL,
        debug=False,  # its reports would quote values
        pycompat=False,  # no methods on values
        keep_trailing_newline=True,
        finalizer=_count,
    )
    for name, function in (("replace", _replace), ("indent", _indent), ("tojson", _tojson)):
        engine.add_filter(name, function)
    return engine


def _never(_name: str) -> bool:
    """A prompt is not HTML, whatever it is called."""
    return False


@pass_state
def _count(state: Any, value: Any) -> Any:
    """Stop a render whose output grows too long; called with every value that is printed."""
    length = state.get_temp("length", 0) + len(value if isinstance(value, str) else str(value))
    if length > MAX_OUTPUT:
        raise RenderError("the rendered prompt is too long")
    state.set_temp("length", length)
    return NotImplemented  # print it as the engine does


# The engine's own filters of these names can multiply the size of a value; these stop at the cap.


def _replace(value: Scalar, old: Scalar, new: Scalar) -> str:
    text, old, new = _text(value), _text(old), _text(new)
    _fit(len(text) + text.count(old) * len(new))
    return text.replace(old, new)


def _indent(value: Scalar, width: int = 4, first: bool = False, blank: bool = False) -> str:
    text = _text(value)
    _fit(len(text) + (text.count("\n") + 1) * width)
    given = {"x": text, "width": width, "first": first, "blank": blank}
    return str(_PRINTER.eval_expr("x|indent(width, first, blank)", **given))


@pass_state
def _tojson(state: Any, value: Scalar) -> str:
    """As JSON; unlike the engine's, not escaped for HTML, which a model would read."""
    length = state.get_temp("json", 0) + (len(value) if isinstance(value, str) else 0)
    if length > MAX_JSON:
        raise RenderError("what is to be JSON is too long")
    state.set_temp("json", length)
    return orjson.dumps(value).decode()


def _fit(length: int) -> None:
    if length > MAX_OUTPUT:
        raise RenderError("a filter's result is too long")


def _text(value: Scalar) -> str:
    """Return what the filter works on. An undefined value comes as None."""
    if value is None:
        raise RenderError("a filter needs a text")
    return value if isinstance(value, str) else _printed(value)


def _printed(value: float | bool) -> str:
    """Return a number as the engine prints it: Rust prints floats in its own way."""
    return str(_PRINTER.render_template("", x=value)) if isinstance(value, float) else str(value)


_PRINTER = Environment(loader={"": "{{ x }}"}.get)
