"""The upstream seam through LiteLLM, for vendors that do not speak OpenAI's dialect.

OpenAI's JSON goes in, OpenAI's JSON or events come out, and LiteLLM's exceptions become the HTTP errors that
`classify` reads. The only file that imports litellm: that takes seconds and 190 MB, so a worker calls `load()` before
it says that it is ready.
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import httpx
import orjson
import structlog

from proxy import late
from proxy.tasks import Tasks
from proxy.upstreams.base import Call, Failed, Target, connect_failed
from proxy.upstreams.classify import classify
from proxy.upstreams.confine import confines
from proxy.upstreams.redact import secrets_of
from proxy.upstreams.stream import StreamReply
from routes import failure

if TYPE_CHECKING:
    from types import ModuleType

# A caller's body must not reach LiteLLM's own arguments (api_base, mock_response, extra_headers, model_list ...), so
# what is passed on is listed: the chat API's parameters, and two that several vendors share.
PARAMETERS: Final = frozenset(
    {
        *("messages", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "response_format"),
        *("temperature", "top_p", "top_k", "n", "stop", "max_tokens", "max_completion_tokens", "seed", "user"),
        *("presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs"),
        *("stream", "stream_options", "reasoning_effort", "verbosity", "thinking", "modalities", "audio"),
        *("prediction", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        "web_search_options",
    }
)
JSON_HEAD: Final = {b"content-type": b"application/json"}
EVENTS_HEAD: Final = {b"content-type": b"text/event-stream"}
DONE: Final = b"data: [DONE]\n\n"
MAX_BUFFERED: Final = 1000  # events that may wait unread in LiteLLM when a reply is closed

log = structlog.get_logger("pointsman")

_vendor_prefix = re.compile(r"^litellm\.\w+:\s*(?:\w+Exception\s*-\s*)?")


def load() -> "ModuleType":
    """Import LiteLLM, offline and silent. Seconds of CPU the first time. Raises ImportError without the extra."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it asks the internet for prices
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    os.environ.setdefault("LITELLM_LOCAL_BLOG_POSTS", "True")
    os.environ.setdefault("LITELLM_OFFLINE_MODE", "True")  # newer releases: all of these in one
    os.environ["LITELLM_MODE"] = "PRODUCTION"  # else a `.env` file found in some folder above decides with the config
    # For some vendors it would fetch the images that a caller's body names, from here, and on the event loop.
    os.environ.setdefault("MAX_IMAGE_URL_DOWNLOAD_SIZE_MB", "0")
    if os.environ.get("SSL_VERIFY", "").strip().lower() == "false":  # what LiteLLM would obey
        del os.environ["SSL_VERIFY"]
        log.warning("SSL_VERIFY=false is ignored: TLS to models is always verified")
    import litellm

    litellm.telemetry = False
    litellm.drop_params = True  # a parameter this vendor does not know is left out, as its own SDK would
    litellm.num_retries = 0  # retries are the driver's
    litellm.suppress_debug_info = True
    litellm.disable_streaming_logging = True
    litellm.turn_off_message_logging = True
    _confine()
    return litellm


def _confine() -> None:
    """Make every HTTP client of LiteLLM's one that follows no redirect and keeps no cookie. It has no setting."""
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, HTTPHandler
    from litellm.llms.openai.common_utils import BaseOpenAILLM

    for handler in (AsyncHTTPHandler, HTTPHandler):
        handler.create_client = confines(handler.create_client)  # type: ignore[method-assign]
    for name in ("_get_async_http_client", "_get_sync_http_client"):
        setattr(BaseOpenAILLM, name, staticmethod(confines(getattr(BaseOpenAILLM, name))))


class LiteLLMUpstream:
    """A `base.Upstream`. `Target.provider` holds `provider` and what `litellm.acompletion` takes for it."""

    def __init__(self, target: Target) -> None:
        settings = dict(target.provider or {})
        self._vendor = str(settings.pop("provider", None) or "openai")
        self._settings = settings
        self._target = target
        self._name = target.name
        self._secrets = secrets_of(target)
        self._litellm: Any = load()
        self._slots = asyncio.Semaphore(target.max_connections)
        self._tasks = Tasks()

    async def send(self, call: Call, deadline: float) -> StreamReply:
        if call.path != b"/chat/completions":
            why = f"{self._name!r} is called through LiteLLM, which serves chat completions only"
            raise Failed(failure.REQUEST, why, status=404)
        body: dict[str, Any] = orjson.loads(call.body)
        loop = asyncio.get_running_loop()
        await self._slot(min(loop.time() + call.connect_timeout, deadline))
        try:
            async with late.until(deadline):
                answer = await self._complete(body, max(0.001, deadline - loop.time()))
        except TimeoutError:
            self._slots.release()
            why = f"{self._name!r} did not begin to answer in time"
            raise Failed(failure.TIMEOUT, why, phase="first_content") from None
        except Exception as error:  # noqa: BLE001 — LiteLLM's have no common base; what is not its own is raised on
            self._slots.release()
            status, headers, said = self._as_http(error)
            return self._reply(status, headers, _once(said), _nothing)
        except BaseException:  # a cancellation
            self._slots.release()
            raise
        if body.get("stream"):
            return self._reply(200, EVENTS_HEAD, _events(answer), lambda: _hang_up(answer), holds_slot=True)
        return self._reply(200, JSON_HEAD, _once(_encoded(answer)), _nothing, holds_slot=True)

    async def close(self) -> None:
        await self._tasks.wait()

    async def _slot(self, give_up: float) -> None:
        try:
            async with late.until(give_up):
                await self._slots.acquire()
        except TimeoutError:
            why = f"no free connection to {self._name!r} in time (all {self._target.max_connections} are in use)"
            raise Failed(failure.TIMEOUT, why, phase="connect") from None

    def _complete(self, body: Mapping[str, Any], timeout: float) -> Awaitable[Any]:
        arguments = {name: value for name, value in body.items() if name in PARAMETERS}
        if extra := {name.decode(): value.decode("latin-1") for name, value in self._target.headers}:
            arguments["extra_headers"] = extra
        model = f"{self._vendor}/{body['model']}"
        own = {"model": model, "timeout": timeout, "max_retries": 0, "num_retries": 0}
        # Tools are the caller's to run; LiteLLM's gateway for them needs packages that are not installed.
        own["_skip_mcp_handler"] = True
        found: Awaitable[Any] = self._litellm.acompletion(**{**arguments, **self._settings, **own})
        return found

    def _reply(
        self,
        status: int,
        headers: Mapping[bytes, bytes],
        chunks: AsyncIterator[bytes],
        shut: Callable[[], Awaitable[None]],
        *,
        holds_slot: bool = False,
    ) -> StreamReply:
        return StreamReply(
            status,
            headers,
            chunks,
            name=self._name,
            translate=self._translate,
            shut=shut,
            release=self._slots.release if holds_slot else lambda: None,
            tasks=self._tasks,
        )

    def _as_http(self, error: Exception) -> tuple[int, dict[bytes, bytes], bytes]:
        """Turn one of LiteLLM's exceptions into the answer that OpenAI's API would have given; raise for others."""
        if isinstance(error, self._litellm.Timeout):
            raise Failed(failure.TIMEOUT, f"{self._name!r} did not answer in time", phase="first_content") from error
        if isinstance(error, self._litellm.APIConnectionError) or _lost_connection(error):
            raise connect_failed(f"{self._name!r} could not be reached through LiteLLM") from error
        status = getattr(error, "status_code", None)
        if not isinstance(status, int) or not type(error).__module__.startswith(("litellm", "openai")):
            raise error
        return status, _retry_headers(error), orjson.dumps({"error": self._fields(error)})

    def _fields(self, error: Exception) -> dict[str, object]:
        litellm = self._litellm
        code = getattr(error, "code", None)
        if isinstance(error, litellm.ContextWindowExceededError):
            code = "context_length_exceeded"
        elif isinstance(error, litellm.ContentPolicyViolationError):
            code = "content_filter"
        message = str(getattr(error, "message", error)).partition("\nTraceback")[0]
        while (bare := _vendor_prefix.sub("", message)) != message:
            message = bare
        return {
            "message": _inner_message(message),
            "type": getattr(error, "type", None),
            "param": getattr(error, "param", None),
            "code": code,
        }

    def _translate(self, error: Exception) -> Failed | None:
        """What broke a stream that had begun."""
        if _lost_connection(error):
            return Failed(failure.BAD_ANSWER, f"{self._name!r} broke off its answer")
        try:
            status, headers, body = self._as_http(error)
        except Failed as failed:
            return failed
        except Exception:  # noqa: BLE001 — a vendor's library broke off in a way that LiteLLM does not know
            return Failed(failure.BAD_ANSWER, f"{self._name!r} broke off its answer")
        return classify(status, headers, body, model=self._name, secrets=self._secrets)


def _encoded(answer: Any) -> bytes:
    """OpenAI's JSON from LiteLLM's value, without its own price, and with the nulls that clients look for."""
    found: dict[str, Any] = answer.model_dump(mode="json", exclude_none=True)
    for choice in found.get("choices") or ():
        choice.setdefault("finish_reason", None)
        if "message" in choice:
            choice["message"].setdefault("content", None)
    if "usage" in found:
        found["usage"].pop("cost", None)
    return orjson.dumps(found)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _nothing() -> None:
    pass


async def _events(answer: Any) -> AsyncIterator[bytes]:
    async for chunk in answer:
        yield b"data: %b\n\n" % _encoded(chunk)
    yield DONE


def _lost_connection(error: BaseException) -> bool:
    """LiteLLM calls a refused or broken connection an internal server error; what it wraps tells them apart."""
    seen: list[BaseException] = []
    left: list[object] = [error]
    while left:
        found = left.pop()
        if isinstance(found, httpx.NetworkError | httpx.ProtocolError):
            return True
        if isinstance(found, BaseException) and found not in seen:
            seen.append(found)
            left += [found.__cause__, found.__context__, getattr(found, "original_exception", None)]
    return False


async def _hang_up(answer: Any) -> None:
    """Close the vendor's connection. LiteLLM's own `aclose` misses it for some vendors, Anthropic among them; a read
    that is cancelled while it waits for the network closes it, so read what is buffered until one waits."""
    for _ in range(MAX_BUFFERED):
        reading = asyncio.get_running_loop().create_task(_skip(answer))
        await asyncio.sleep(0)
        if not reading.done():
            reading.cancel()
            await asyncio.wait((reading,))
        if reading.cancelled() or reading.exception() is not None or reading.result():
            break
    await answer.aclose()


async def _skip(answer: Any) -> bool:
    """Read one event; True at the end."""
    async for _ in answer:
        return False
    return True


def _inner_message(text: str) -> str:
    """LiteLLM wraps the vendor's whole JSON in its message: take the vendor's own words out again."""
    start = text.find("{")
    try:
        found = json.JSONDecoder().raw_decode(text, start)[0] if start >= 0 else None
    except (ValueError, RecursionError):  # not JSON after all, or a depth bomb
        return text
    inner = found.get("error") if isinstance(found, dict) else None
    said = inner.get("message") if isinstance(inner, dict) else None
    return said if isinstance(said, str) and said else text


def _retry_headers(error: Exception) -> dict[bytes, bytes]:
    headers = dict(JSON_HEAD)
    for source in (getattr(error, "response", None), error):
        found = getattr(source, "headers", None) or getattr(source, "litellm_response_headers", None) or {}
        for name in ("retry-after", "retry-after-ms"):
            if (value := found.get(name)) is not None:
                headers.setdefault(name.encode(), str(value).encode("latin-1", "replace"))
    return headers
