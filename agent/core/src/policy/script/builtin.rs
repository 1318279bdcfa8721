//! Commands of the shell itself. A few that only say or test something are allowed, in the forms listed; the others
//! change what the following commands mean, and deny.

/// What a command name means to a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builtin {
    /// Changes the directory; followed, not trusted.
    Cd,
    /// May run as it stands.
    Harmless,
    /// Never.
    Refused(&'static str),
    /// A program.
    None,
}

const REFUSED: &[&str] = &[
    ".",
    "alias",
    "bg",
    "bind",
    "break",
    "builtin",
    "caller",
    "command",
    "compgen",
    "complete",
    "compopt",
    "continue",
    "declare",
    "dirs",
    "disown",
    "enable",
    "eval",
    "exec",
    "exit",
    "export",
    "fc",
    "fg",
    "getopts",
    "hash",
    "history",
    "jobs",
    "let",
    "local",
    "logout",
    "mapfile",
    "popd",
    "pushd",
    "read",
    "readarray",
    "readonly",
    "return",
    "set",
    "setopt",
    "shift",
    "shopt",
    "source",
    "suspend",
    "times",
    "trap",
    "type",
    "typeset",
    "ulimit",
    "umask",
    "unalias",
    "unset",
    "unsetopt",
    "wait",
    "autoload",
    "emulate",
    "zmodload",
    "rehash",
    "noglob",
    "nocorrect",
];

/// Looks a command up by its words, quotes taken off.
pub(crate) fn builtin(words: &[String]) -> Builtin {
    let Some((name, args)) = words.split_first() else { return Builtin::None };
    match name.as_str() {
        "cd" => match args {
            [] => Builtin::Cd,
            [target] if !target.is_empty() && !target.starts_with('-') => Builtin::Cd,
            _ => Builtin::Refused("'cd' takes one directory here"),
        },
        "echo" | "true" | "false" | ":" => Builtin::Harmless,
        "pwd" if args.is_empty() => Builtin::Harmless,
        "pwd" => Builtin::Refused("'pwd' takes nothing here"),
        // `printf -v` sets a variable.
        "printf" if args.first().is_some_and(|format| !format.starts_with('-')) => {
            Builtin::Harmless
        }
        "printf" => Builtin::Refused("'printf' begins with its format here"),
        "test" => test(args),
        "[" => match args.split_last() {
            Some((last, args)) if last == "]" => test(args),
            Some(_) | None => Builtin::Refused("'[' without ']'"),
        },
        name if REFUSED.contains(&name) => {
            Builtin::Refused("it changes what the following commands mean")
        }
        _ => Builtin::None,
    }
}

/// `-v` evaluates what stands in brackets, and others do in some shells: the list is closed.
fn test(args: &[String]) -> Builtin {
    let refused = Builtin::Refused("'test' in a form that is not known to be harmless");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let args = args.strip_prefix(&["!"]).unwrap_or(&args);
    let unary =
        ["-e", "-f", "-d", "-r", "-w", "-x", "-s", "-n", "-z", "-h", "-L", "-p", "-S", "-b", "-c"];
    let number = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        !digits.is_empty() && digits.len() < 18 && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let good = match args {
        [] => true,
        [word] => !word.starts_with('-'),
        [op, word] => unary.contains(op) && *word != "(" && *word != ")",
        [_, "=" | "!=", _] => true,
        [a, "-eq" | "-ne" | "-lt" | "-le" | "-gt" | "-ge", b] => number(a) && number(b),
        _ => false,
    };
    if good { Builtin::Harmless } else { refused }
}
