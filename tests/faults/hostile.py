"""Patterns that make backtracking engines run for ever, and config files that would run, open or unfold something."""

# The pattern, what the text is made of, and its end: from catalogues of regular expression denial of service.
PATTERNS = (
    (r"(a+)+$", "a", "!"), (r"([a-zA-Z]+)*$", "a", "!"), (r"(a|aa)+$", "a", "!"), (r"(a|a?)+$", "a", "!"),
    (r"(.*a){12}", "ab", "!"), (r"(a*)*b", "a", ""), (r"^(a+)+b", "a", ""), (r"^(([a-z])+.)+[A-Z]([a-z])+$", "a", ""),
    (r"(x+x+)+y", "x", ""), (r"^(\w+\s?)*$", "word ", "!"), (r"(\w*\d*)*!", "a1", ""), (r"(.*)*$", "a", "\n!"),
    (r"(.*)(.*)(.*)(.*)(.*)z", "a", ""), (r"(?i)(abc|abd|abe)*z", "abc", ""), (r"\b(\w+)\b.*\bzz\b", "word ", ""),
    (r".*.*.*.*=.*", "a", ""), (r"(?s).*x.*y.*z.*", "xy", ""), (r"([^,]*,){30}x", "x,", ""), (r"\pL*\d", "é", ""),
    (r"(\p{L}\p{M}*)+1", "é", ""), (r"[^\x00-\x7f]{3,50}z", "é", ""), ("x*" * 50 + "y", "x", ""),
    ("|".join("a" * n for n in range(1, 60)) + "z", "a", ""), ("(" * 100 + "a" + ")*" * 100 + "b", "a", ""),
    (r"^(?:[a-z0-9]+[._-]?)+@", "a.", ""), (r"([a-z]+\.)+[a-z]{2,6}$", "a.", "!"), (r"(\d+)*\.(\d+)*$", "1", "!"),
    (r"^(\d+(,\d+)*)+$", "1,", "!"), (r"(<[^>]*>)*x", "<a>", ""), (r"<(\w+)[^>]*>.*</\w+>$", "<a>", "!"),
    (r"\s+$", " ", "!"), (r"^\s*(.*\S)?\s*$", " a", "\n!"), (r"(\s*\n)*\s*x", "\n ", ""), (r"(//.*\n)*z",
    "//a\n", ""),
    (r"/\*(.|\n)*\*/", "/*", ""), (r"('[^']*'|[^'])*\"", "'a'", ""), (r"(\\.|[^\"])*\"$", "\\a", "!"),
    (r"([\w-]+=[^;]*;\s*)*$", "a=b; ", "!"), (r"^((\w+)://)?([\w.]+)+(/\w+)*$", "a.", "!"), (r"(ab|ba|aab)*c",
    "aab", ""),
    (r"(0|1)*101(0|1)*2", "01", ""), (r"a?" * 30 + "a" * 30 + "b", "a", ""), (r"(a{1,10}){1,3}b", "a", ""),
    (r"(?m)^(.+)+;$", "ab\n", ""), (r"(.+)+\x00", "a", ""), (r"(([^()]|\(\w\))*)=", "(a)", ""),
    (r"(\S+\s*)+\?$", "a ", "!"), (r"(?:(?:a|b)|(?:b|a))*c", "ab", ""), (r"[\s\S]*?[\s\S]*?[\s\S]*?#", "a", ""),
    (r"(ha|h|a)+!{3,9}$", "ha", ""),
)  # fmt: skip

TOO_LARGE = (
    r"(.{1,1000})!", r"\w{1,1000}\pL{1,1000}", r"(a{100}){100}", r"((a{0,100}){0,100}){0,100}", r"(\pL{200}){5}",
    "|".join(f"{n * 7919 % 100_000:05}word{n}" for n in range(1000)), r"[\x{100}-\x{10ffff}]{900}",
    r"(?=a)b", r"(a)\1", r"(?<!a)b", "a{2000}",
)  # fmt: skip

_REST = b"""
upstreams: {up: {base_url: "http://127.0.0.1:9/v1"}}
models: {m: {at: up, price: {input: 1, output: 1}}}
policies: {p: {default: {model: m}}}
"""


def _tagged(tag: str) -> bytes:
    return f"version: 1\nserver: {tag}\n".encode() + _REST


def _bomb(levels: int, width: int) -> bytes:
    lines = [b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, levels):
        lines.append(b"a%d: &a%d [%b]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * width)))
    return b"version: 1\n" + b"\n".join(lines) + _REST


FILES: dict[str, bytes] = {
    "python object/apply": _tagged("!!python/object/apply:os.system ['touch owned']"),
    "python object/new": _tagged("!!python/object/new:os.system ['touch owned']"),
    "python object": _tagged("!!python/object:proxy.keys.KeyRing {}"),
    "python name": _tagged("!!python/name:os.system"),
    "python module": _tagged("!!python/module:os"),
    "python tuple": _tagged("!!python/tuple [1, 2]"),
    "ruby object": _tagged("!ruby/object:Gem::Installer {}"),
    "java constructor": _tagged('!!javax.script.ScriptEngineManager [!!java.net.URL ["http://127.0.0.1:9"]]'),
    "own tag": _tagged("!env HOME"),
    "include tag": _tagged("!include /etc/passwd"),
    "binary tag": _tagged("!!binary R0lGODlhDAAMAIQAAP"),
    "set tag": _tagged("!!set {a, b}"),
    "tag by prefix": b"%TAG !p! tag:yaml.org,2002:python/\n---\nversion: 1\nserver: !p!name:os.system\n" + _REST,
    "verbatim tag": _tagged("!<tag:yaml.org,2002:python/name:os.system>"),
    "billion laughs": _bomb(10, 10),
    "quadratic blow-up": b"version: 1\na: &a " + b"x" * 100_000 + b"\nb: [" + b"*a, " * 300_000 + b"]\n" + _REST,
    "alias of itself": b"version: 1\nserver: &s {a: *s}\n" + _REST,
    "alias before its anchor": b"version: 1\nserver: *s\nx: &s {}\n" + _REST,
    "merge key": b"version: 1\nserver: {<<: {listen: 0.0.0.0:80}}\n" + _REST,
    "the same key twice": b"version: 1\nserver: {listen: 127.0.0.1:1}\nserver: {listen: 0.0.0.0:1}\n" + _REST,
    "the same key twice within": b"version: 1\nserver: {listen: 127.0.0.1:1, listen: 0.0.0.0:1}\n" + _REST,
    "two documents": b"version: 1\n" + _REST + b"---\nversion: 1\nserver: {listen: 0.0.0.0:1}\n",
    "100,000 brackets": b"version: 1\nserver: " + b"[" * 100_000 + b"\n" + _REST,
    "100,000 maps": b"version: 1\nserver: " + b"{a: " * 100_000 + b"\n" + _REST,
    "deep by indentation": b"version: 1\nserver:\n" + b"".join(b" " * n + b"a:\n" for n in range(1, 2000)) + _REST,
    "5 MiB": b"version: 1\n#" + b"x" * 5 * 2**20 + b"\n" + _REST,
    "no text": b"\x00\x01\x02\xff\xfe" * 1000,
    "latin-1": b"version: 1\nserver: {listen: \xe9}\n" + _REST,
    "a NUL": b'version: 1\nserver: {listen: "a\x00b"}\n' + _REST,
    "yes for a number": b"version: yes\n" + _REST,
    "1e3 for a size": b"version: 1\nserver: {max_body: 1e3}\n" + _REST,
    "a secret of the machine": b"version: 1\nupstreams: {up: {base_url: 'http://h/v1', api_key: 'file:/etc'}}\n",
    "a prompt that is a device": b"version: 1\nprompts: {p: /dev/zero}\n" + _REST,
    "includes itself by a glob of everything": b"version: 1\ninclude: /proc/self/*\n" + _REST,
}
