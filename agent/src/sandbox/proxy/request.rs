//! What a client asks of the proxy, read strictly from the head of its request.

use super::authority::{Host, authority, authority_or};

/// Longest head, bytes.
pub(super) const HEAD_MAX: usize = 16 * 1024;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) host: Host,
    pub(super) port: u16,
    /// As it was shown in `Proxy-Authorization`.
    pub(super) credentials: String,
    pub(super) kind: Kind,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A tunnel.
    Connect,
    /// One request without encryption: the head to send on, and how many bytes follow it.
    Plain { head: String, body: u64 },
}

/// The length of the head, with the empty line, if all of it is there.
pub(super) fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Reads a head. `None`: it cannot be understood in exactly one way.
pub(super) fn parse(head: &[u8]) -> Option<Request> {
    let text = std::str::from_utf8(head).ok()?.strip_suffix("\r\n\r\n")?;
    if text.bytes().any(|byte| byte.is_ascii_control() && !b"\r\n\t".contains(&byte)) {
        return None;
    }
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target, version) = (first.next()?, first.next()?, first.next()?);
    if first.next().is_some() || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return None;
    }
    let mut fields = Vec::new();
    for line in lines {
        // A line that continues another, or ends in an odd way, is read differently by different programs.
        if line.contains(['\r', '\n']) || line.starts_with([' ', '\t']) {
            return None;
        }
        let (name, value) = line.split_once(':')?;
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return None;
        }
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let credentials = only(&fields, "proxy-authorization")?.unwrap_or_default().to_owned();
    if method == "CONNECT" {
        let (host, port) = authority(target)?;
        return Some(Request { host, port, credentials, kind: Kind::Connect });
    }
    let rest = target.strip_prefix("http://")?;
    let (named, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = authority_or(named, 80)?;
    if let Some(field) = only(&fields, "host")?
        && authority_or(field, 80)? != (host.clone(), port)
    {
        return None;
    }
    if only(&fields, "transfer-encoding")?.is_some() {
        return None;
    }
    let body = match only(&fields, "content-length")? {
        Some(length) if length.bytes().all(|b| b.is_ascii_digit()) => length.parse().ok()?,
        Some(_) => return None,
        None => 0,
    };
    let head = forward(method, path, named, &fields);
    Some(Request { host, port, credentials, kind: Kind::Plain { head, body } })
}

/// The only value of a field; two of one kind are a trap.
fn only<'a>(fields: &'a [(String, String)], name: &str) -> Option<Option<&'a str>> {
    let mut values = fields.iter().filter(|(field, _)| field == name).map(|(_, v)| v.as_str());
    let value = values.next();
    values.next().is_none().then_some(value)
}

/// The head as the server gets it: without what is between client and proxy, and for one request only.
fn forward(method: &str, path: &str, named: &str, fields: &[(String, String)]) -> String {
    let path = if path.is_empty() { "/" } else { path };
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {named}\r\nconnection: close\r\n");
    for (name, value) in fields {
        let ours = name.starts_with("proxy-")
            || matches!(name.as_str(), "host" | "connection" | "keep-alive" | "upgrade" | "te");
        if !ours {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Host {
        Host::Name(text.to_owned())
    }

    #[test]
    fn tunnels_and_plain_requests_are_understood() {
        let head = b"CONNECT Example.com:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic abc\r\n\r\n";
        let request = parse(head).unwrap();
        assert_eq!((request.host, request.port), (name("example.com"), 443));
        assert_eq!((request.credentials.as_str(), request.kind), ("Basic abc", Kind::Connect));
        let head = b"POST http://example.com:81/a?b HTTP/1.1\r\nHost: example.com:81\r\nContent-Length: 5\r\n\
                     Proxy-Connection: x\r\nConnection: keep-alive\r\nAccept: */*\r\n\r\n";
        let request = parse(head).unwrap();
        assert_eq!((request.host, request.port), (name("example.com"), 81));
        let head = "POST /a?b HTTP/1.1\r\nhost: example.com:81\r\nconnection: close\r\ncontent-length: 5\r\n\
                    accept: */*\r\n\r\n";
        assert_eq!(request.kind, Kind::Plain { head: head.to_owned(), body: 5 });
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_understood() {
        for head in [
            "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
            "GET https://example.com/ HTTP/1.1\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nHost: evil.example\r\n\r\n",
            "GET http://user@example.com/ HTTP/1.1\r\n\r\n",
            "GET http://example.com/ HTTP/2\r\n\r\n",
            "GET  http://example.com/ HTTP/1.1\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nA: b\r\n c: d\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nA : b\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nA: b\nHost: evil.example\r\n\r\n",
            "GET http://exa\0mple.com/ HTTP/1.1\r\n\r\n",
            "CONNECT example.com HTTP/1.1\r\n\r\n",
            "CONNECT http://example.com:443 HTTP/1.1\r\n\r\n",
            "CONNECT example.com:443\r\n\r\n",
            "CONNECT example.com:443 HTTP/1.1\r\n",
        ] {
            assert_eq!(parse(head.as_bytes()), None, "{head:?}");
        }
    }
}
