//! The subset: what is read, what is opaque, and that what is written down anew means the same.

use super::*;
use std::path::{Path, PathBuf};

/// Words of each command, or why not.
fn words(text: &str) -> Result<Vec<Vec<String>>, String> {
    let script = parse(text).map_err(|opaque| opaque.to_string())?;
    let steps = walk(&script, Path::new("/r"), "/home/u").map_err(|opaque| opaque.to_string())?;
    Ok(steps
        .iter()
        .map(|step| step.words.iter().map(|word| word.pattern("/home/u")).collect())
        .collect())
}

#[test]
fn words_lose_their_quotes_as_in_a_shell() {
    for (text, expected) in [
        ("ls -la", vec![vec!["ls", "-la"]]),
        (r"r\m -rf /", vec![vec!["rm", "-rf", "/"]]),
        ("r''m \"-rf\" /", vec![vec!["rm", "-rf", "/"]]),
        ("echo 'a b'\"c d\"e\\ f", vec![vec!["echo", "a bc de f"]]),
        ("echo \"a\\\"b\\\\c\\n\"", vec![vec!["echo", "a\"b\\c\\n"]]),
        ("echo ''", vec![vec!["echo", ""]]),
        ("cat ~/x ~/'y z'", vec![vec!["cat", "/home/u/x", "/home/u/y z"]]),
        (
            "a && b || c; d\ne | f",
            vec![vec!["a"], vec!["b"], vec!["c"], vec!["d"], vec!["e"], vec!["f"]],
        ),
        ("# nothing\nls # said\n\n", vec![vec!["ls"]]),
        ("a &&\n b |\n\n c", vec![vec!["a"], vec!["b"], vec!["c"]]),
        ("[ -f x ] && ls", vec![vec!["[", "-f", "x", "]"], vec!["ls"]]),
        ("ls *.rs a?b", vec![vec!["ls", "*.rs", "a?b"]]),
        ("echo 'ü' \"é\"", vec![vec!["echo", "ü", "é"]]),
    ] {
        let expected: Vec<Vec<String>> = expected
            .into_iter()
            .map(|words| words.into_iter().map(str::to_owned).collect())
            .collect();
        assert_eq!(words(text), Ok(expected), "{text}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list")]
fn everything_else_is_opaque() {
    for text in [
        "",
        "  ",
        "# only",
        "ls $(id)",
        "ls `id`",
        "cat <(id)",
        "{ls,-la}",
        "A=1 ls",
        "A+=1",
        "ls & id",
        "ls &",
        "cat <<E\nE",
        "$'\\x72m'",
        "\"$x\"",
        "$x",
        "test -v \"a[$(id)]\"",
        "if true; then ls; fi",
        "for f in a; do ls; done",
        "(ls)",
        "ls 2>&2",
        "ls 1>f",
        "ls 3>f",
        "ls >&f",
        "ls &>f",
        "ls >|f",
        "ls <>f",
        "ls 2>>f",
        "ls |& cat",
        "ls;;",
        "; ls",
        "ls &&",
        "&& ls",
        "ls |",
        "| ls",
        "> f",
        "2>&1",
        "ls >",
        "ls > *",
        "ls > ''",
        "! ls",
        "time ls",
        "function f",
        "f() { ls; }",
        "ls \\\n x",
        "echo \"a\\\nb\"",
        "ls\r",
        "ls \u{b}",
        "ls \u{c}x",
        "ls ü",
        "ls \u{200b}",
        "echo a#b",
        "echo ~",
        "echo ~x",
        "echo a~",
        "ls [ab]",
        "ls a[b]",
        "ls [a] x]y",
        "*",
        "l?",
        "echo 'a",
        "echo \"a",
        "echo \"!x\"",
        "echo '*'*",
        "[[ a ]]",
        "while true; do ls; done",
        "ls \\",
        "echo {a",
        "ls !x",
        "cd a | ls",
        "2>&12",
        "ls 2>&1x",
        "echo \"`id`\"",
        "a=b",
        "./a=b x",
    ] {
        assert!(words(text).is_err(), "{text:?} is read as {:?}", words(text));
    }
}

#[test]
fn a_change_of_directory_is_followed_through_every_way() {
    let dirs = |text: &str| -> Result<Vec<Vec<PathBuf>>, String> {
        let script = parse(text).map_err(|opaque| opaque.to_string())?;
        let steps = walk(&script, Path::new("/r"), "/h").map_err(|opaque| opaque.to_string())?;
        Ok(steps.into_iter().filter(|step| step.to.is_none()).map(|step| step.dirs).collect())
    };
    let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
    for (text, expected) in [
        ("cd a && ls", vec![paths(&["/r/a"])]),
        ("cd a\nls", vec![paths(&["/r/a"])]),
        ("cd a; cd b; ls", vec![paths(&["/r/a/b"])]),
        ("cd a && ls; id", vec![paths(&["/r/a"]), paths(&["/r", "/r/a"])]),
        ("cd a || ls", vec![paths(&["/r", "/r/a"])]),
        ("true && cd a && ls", vec![paths(&["/r"]), paths(&["/r/a"])]),
        ("false || cd a && ls", vec![paths(&["/r"]), paths(&["/r", "/r/a"])]),
        ("cd a && false || ls", vec![paths(&["/r/a"]), paths(&["/r", "/r/a"])]),
        ("cd; ls", vec![paths(&["/h"])]),
    ] {
        assert_eq!(dirs(text), Ok(expected), "{text}");
    }
    assert!(dirs("false || cd a; cd b").is_err());
    assert!(dirs("true && cd a | ls").is_err());
}

#[test]
fn builtins_that_change_what_follows_are_refused() {
    let of = |text: &str| {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        builtin(&words)
    };
    for text in [
        "export A=1",
        "eval ls",
        "exec ls",
        ". ./x",
        "source x",
        "trap x EXIT",
        "alias ls=rm",
        "set -e",
        "command ls",
        "builtin cd",
        "hash -p /x ls",
        "printf -v PATH x",
        "test -v a[0]",
        "[ -v a[0] ]",
        "[ -f x",
        "cd -",
        "cd -P x",
        "cd a b",
        "pwd -P",
        "read x",
        "unset PATH",
        "exit 0",
        "test a -eq b",
        "test -o x",
        "test a -a b",
        "enable -f x y",
        "type ls",
        "printf",
    ] {
        assert!(matches!(of(text), Builtin::Refused(_)), "{text}");
    }
    for text in [
        "echo -n x",
        "pwd",
        "true",
        "false x",
        ": x",
        "test -f x",
        "[ a = b ]",
        "[ 1 -lt 2 ]",
        "printf %s x",
        "test ! -d x",
    ] {
        assert_eq!(of(text), Builtin::Harmless, "{text}");
    }
    assert_eq!(of("ls"), Builtin::None);
    assert_eq!(of("kill 1"), Builtin::None);
}

#[test]
fn generous_reading_finds_commands_wherever_they_hide() {
    for (text, run) in [
        ("for f in a; do cargo publish; done", &["cargo", "publish"][..]),
        ("x=$(cargo publish)", &["cargo", "publish"]),
        ("`car'go' pub\\lish`", &["cargo", "publish"]),
        ("{cargo,publish}", &["cargo", "publish"]),
        ("cargo${IFS}publish", &["cargo", "publish"]),
        ("cargo $(true) publish", &["cargo", "publish"]),
        ("cargo $x publish", &["cargo", "publish"]),
        ("eval \"a; cargo publish\"", &["cargo", "publish"]),
        ("car$x\"go\" publish", &["cargo", "publish"]),
    ] {
        let found = fragments(text)
            .iter()
            .any(|words| words.windows(run.len()).any(|window| window == run));
        assert!(found, "{text}: {:?}", fragments(text));
    }
}
