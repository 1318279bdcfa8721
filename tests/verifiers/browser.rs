//! The page for auditors (tests/verifiers/js/verify.html) in a real browser: every vector is handed to it as a person would, and what it
//! shows is compared with what the vector says and with the words of `cortex audit verify`.

use crate::cases::{Case, cases, names, report_of, root};
use crate::{agree, compared};
use cortex_tests::browser::Browser;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

/// Serves the page and the verifier to this machine, and nothing else. Returns the page's address.
fn served() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        // A browser opens connections that it never uses.
        for client in listener.incoming() {
            std::thread::spawn(move || serve(client.unwrap()).ok());
        }
    });
    format!("http://{address}/verify.html")
}

fn serve(mut client: TcpStream) -> std::io::Result<()> {
    let mut request = String::new();
    let mut lines = BufReader::new(client.try_clone()?);
    lines.read_line(&mut request)?;
    let mut header = String::from("-");
    while !header.trim().is_empty() {
        header.clear();
        lines.read_line(&mut header)?;
    }
    let (status, kind, body) = match request.split(' ').nth(1) {
        Some(path @ "/verify.html") => ("200 OK", "text/html", page(path)),
        Some(path @ "/cortex-verify.mjs") => ("200 OK", "text/javascript", page(path)),
        _ => ("404 Not Found", "text/plain", Vec::new()),
    };
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    client.write_all(&body)
}

fn page(path: &str) -> Vec<u8> {
    std::fs::read(root().join("tests/verifiers/js").join(&path[1..])).unwrap()
}

/// Fills the page in, presses the button, and returns exit code, report and the text for people.
fn handed(browser: &mut Browser, url: &str, case: &Case) -> (u64, Value, String) {
    browser.open(url).unwrap();
    browser
        .wait("document.readyState === 'complete' && !document.getElementById('go').disabled")
        .unwrap();
    let dir = &case.dir;
    let sources: Vec<_> = names(dir, "").into_iter().filter(|path| path.is_dir()).collect();
    assert!(sources.len() <= 2, "the page compares two copies");
    for (id, path) in ["bundle", "copy"].into_iter().zip(&sources) {
        browser.choose(id, &[path]).unwrap();
    }
    for (id, name) in
        [("policy", "policy"), ("record", "record.json"), ("proof", "record.tlog-proof")]
    {
        let path = dir.join(name);
        if path.exists() {
            browser.choose(id, &[&path]).unwrap();
        }
    }
    let since = names(dir, ".note");
    if !since.is_empty() {
        let since: Vec<&Path> = since.iter().map(AsRef::as_ref).collect();
        browser.choose("since", &since).unwrap();
    }
    if let Ok(options) = std::fs::read(dir.join("options.json")) {
        let options: Value = serde_json::from_slice(&options).unwrap();
        if options["require_openings"] == true {
            browser.evaluate("document.getElementById('openings').click()").unwrap();
        }
        if let (Some(age), Some(now)) = (options["max_age"].as_u64(), options["now"].as_u64()) {
            let typed = format!(
                "document.getElementById('age').value = '{age}'; Date.now = () => {now}999"
            );
            browser.evaluate(&typed).unwrap();
        }
    }
    browser.evaluate("document.getElementById('go').click()").unwrap();
    browser.wait("document.getElementById('verdict').dataset.exit !== undefined").unwrap();
    let shown =
        "['verdict', 'words', 'report'].map((id) => document.getElementById(id).textContent)";
    let shown = browser.evaluate(shown).unwrap();
    let exit = browser.evaluate("Number(document.getElementById('verdict').dataset.exit)").unwrap();
    let text = |i: usize| shown[i].as_str().unwrap().to_owned();
    let report =
        if text(2).is_empty() { Value::Null } else { serde_json::from_str(&text(2)).unwrap() };
    (exit.as_u64().unwrap(), report, format!("{}\n{}", text(1), text(0)))
}

#[test]
fn the_page_in_a_browser_finds_what_every_vector_says() {
    let mut browser = Browser::start().unwrap();
    let url = served();
    let mut found = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in cases() {
        let (exit, report, text) = handed(&mut browser, &url, &case);
        let wanted = words_of(&case);
        let fits = wanted.as_ref().map_or(text.contains("\nUSAGE: "), |wanted| text == *wanted);
        if !fits {
            wrong.push(format!("{}\nexpected\n{wanted:?}\nshown\n{text:?}", case.name));
        }
        found.insert(case.name, (exit, compared(report)));
    }
    agree(&found);
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n\n"));
    assert_eq!(browser.evaluate("isSecureContext").unwrap(), json!(true));
}

/// What `cortex audit verify` says about a case that can be judged; the hint names no option of a command line.
fn words_of(case: &Case) -> Option<String> {
    let report = report_of(case)?;
    let sources = names(&case.dir, "").into_iter().filter(|path| path.is_dir());
    let mut names: Vec<_> =
        sources.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    if names.is_empty() {
        names.push("the record".to_owned());
    }
    Some(report.lines(&names).join("\n").replace("pass --policy with", "choose a policy with"))
}
