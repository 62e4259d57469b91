"""Classify the names that a pickle imports: harmless to build, or able to run code."""

from __future__ import annotations

import re

# Functions that unpickling needs to rebuild a checkpoint's parts; any other function in a file is there to be called.
CONSTRUCTORS = re.compile(
    r"(builtins|__builtin__)\.(set|frozenset|complex|bytearray|bytes|slice|x?range|object|list|dict|tuple|str|unicode"
    r"|basestring|int|long|float|bool|type)"
    r"|_codecs\.encode|copy_?reg\.(_reconstructor|__newobj__|__newobj_ex__)|re\._compile|array\.\w+|pytz\.\w+"
    r"|collections\.(defaultdict|deque)|datetime\.\w+|functools\.partial|itertools\.\w+|operator\.itemgetter"
    r"|numpy\.(dtype|ndarray|generic|\w*(int|float|complex|bool|str|bytes|void|object)\d*_?|(datetime|timedelta)64)"
    r"|numpy\.(_?core|ma)\.\w+\.(scalar|_\w+)"
    r"|torch\.(device|dtype|layout|\w+_format|strided|serialization\._get_layout)"
    r"|[\w.]+\._*(unpickle|reconstruct|rebuild|new|pyx_unpickle|\w+_ctor)(_\w+)?"
)
# Modules whose functions, and even whose classes when built, run code or give access to it.
RUNS = re.compile(
    r"(os|posix|nt|sys|subprocess|_posixsubprocess|shutil|runpy|importlib|imp|zipimport|pkgutil|ctypes|_ctypes|cffi|socket"
    r"|_socket|ssl|pty|pdb|bdb|codeop|cProfile|timeit|webbrowser|urllib2?|http|httplib|ftplib|smtplib|telnetlib|asyncio"
    r"|multiprocessing|threading|_thread|marshal|pickle|_pickle|cPickle|dill|cloudpickle|joblib|shelve|tempfile|pip"
    r"|setuptools|distutils|ensurepip|commands|popen2|pydoc|doctest|concurrent|sqlite3|zipfile|tarfile|dbm"
    r"|torch\.(hub|jit|package|_C|fx|utils\.cpp_extension))\..+"
    r"|(code|profile|trace)\.\w+|(builtins|__builtin__)\.[a-z_].*|_?io\.FileIO|logging\.FileHandler"
    r"|types\.(?!SimpleNamespace$|MappingProxyType$|NoneType$).+|operator\.(attrgetter|methodcaller)"
)


def runs(name: str) -> bool:
    """Whether an object of this name runs code when it is built, or gives access to code."""
    return RUNS.fullmatch(name) is not None and CONSTRUCTORS.fullmatch(name) is None


def is_function(module: str, name: str) -> bool:
    """Whether a name is a function's, by Python's convention that class names begin with a capital letter."""
    first = name.strip("_")[:1]
    return not first.isupper() and CONSTRUCTORS.fullmatch(f"{module}.{name}") is None
