"""Names that C++ takes, and text that a comment may hold."""

from __future__ import annotations

import re

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LONGEST = 63  # what C compilers must tell apart
# Keywords of C++20 and of C; names of macros, of namespaces that the code uses, and of
# devices on Windows; and types that the code writes without `std`.
_TAKEN = """
    alignas alignof and and_eq arena asm auto bitand bitor bool break case catch char
    char16_t char32_t char8_t class co_await co_return co_yield compl concept const
    const_cast consteval constexpr constinit continue decltype default delete do double
    dynamic_cast else enum explicit export extern false float for friend goto if inline
    int interpreter long main mutable namespace new noexcept not not_eq nullptr operator
    or or_eq private protected public register reinterpret_cast requires resolver
    restrict return short signed sizeof static static_assert static_cast std struct
    switch template tensorflow tflite this thread_local throw true try typedef typeid
    typename union unsigned using virtual void volatile wchar_t while wrong xor xor_eq
    allocator assert aux con errno flatbuffers linux nul offsetof penjing prn unix EOF
    NULL BUFSIZ CLOCKS_PER_SEC EXIT_FAILURE EXIT_SUCCESS FILENAME_MAX FOPEN_MAX HUGE_VAL
    HUGE_VALF HUGE_VALL INFINITY L_tmpnam MATH_ERREXCEPT MATH_ERRNO MAXFLOAT MB_CUR_MAX
    NAN RAND_MAX SEEK_CUR SEEK_END SEEK_SET TMP_MAX math_errhandling setjmp stderr stdin
    stdout va_arg va_copy va_end va_start i386 arm EDOM ERANGE EILSEQ EINVAL ENOMEM EIO
    EPERM ENOENT EAGAIN EBUSY EEXIST EACCES EINTR size_t ptrdiff_t int8_t int16_t
    int32_t int64_t intptr_t uint8_t uint16_t uint32_t uint64_t uintptr_t INT64_MIN
    TfLiteStatus kTfLiteOk TF_LITE_ENSURE_STATUS
"""

# Families of macros in math.h, float.h, limits.h, stdint.h, inttypes.h, signal.h and
# locale.h.
_MACROS = re.compile(
    r"M_[A-Z0-9_]+|FP_[A-Z0-9_]+|SIG(ABRT|FPE|ILL|INT|SEGV|TERM|_DFL|_ERR|_IGN)|LC_[A-Z_]+"
    r"|(PRI|SCN)[a-zA-Z0-9]+|(FLT|DBL|LDBL|DECIMAL)_[A-Z0-9_]+"
    r"|U?INT(_LEAST|_FAST)?\d+_(MAX|MIN|C)|U?INT(PTR|MAX)_(MAX|MIN|C)"
    r"|(U?CHAR|SCHAR|U?SHRT|U?INT|U?LONG|U?LLONG|SIZE|SSIZE|PTRDIFF|WCHAR|WINT"
    r"|SIG_ATOMIC|PATH|NAME)_(MAX|MIN|BIT)|CHAR_BIT|MB_LEN_MAX"
)


def check_c_name(name: str) -> str:
    """Refuse what cannot name a namespace in C++; gives the name."""
    reason = _refusal(name)
    if reason:
        raise ValueError(
            f"`name` must be a C identifier of at most {_LONGEST} characters, as "
            f"{c_name_of(str(name))!r}, got {name!r}: {reason}. Leave it out, or pass "
            "None, and it is made from the name of the file."
        )
    return name


def c_name_of(text: str) -> str:
    """A C identifier that is like a text, as "2x-small model" gives "model_2x_small".

    Example:
        >>> c_name_of("my-model.v2"), c_name_of("class"), c_name_of("2x")
        ('my_model_v2', 'class_model', 'model_2x')
    """
    plain = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:_LONGEST].rstrip("_")
    if not plain or not plain[0].isalpha():
        plain = f"model_{plain}".rstrip("_")[:_LONGEST].rstrip("_")
    return "_".join((plain, "model")) if _is_taken(plain) else plain


def comment(text: str) -> str:
    """Text that ends no comment, goes on no line and draws no trigraph."""
    return re.sub(r"[^ -~]|[\\?]|\*/", "_", text)


def _is_taken(name: str) -> bool:
    return name in _TAKEN.split() or bool(_MACROS.fullmatch(name))


def _refusal(name: object) -> str:
    if not isinstance(name, str):
        return f"it must be a text, not {type(name).__name__}"
    if not _IDENTIFIER.fullmatch(name):
        return "it must have letters, digits and underscores, a letter first"
    if _is_taken(name):
        return "C++ or the written code has that word already"
    if "__" in f"{name}_":
        return "C++ keeps names with two underscores for itself"
    return f"it has {len(name)} characters" if len(name) > _LONGEST else ""
