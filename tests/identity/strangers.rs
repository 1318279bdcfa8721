//! Peers that do not speak as they should: other authorities' certificates, old protocols, names that are not theirs. And our own
//! agent in front of servers that are not the right ones.

use crate::machine::{Machine, address, is_online, join_token, still_serves, url};
use crate::raw::{Stranger, Thief, block_on, leaf, uri_of};
use crate::support::{Server, wait};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// TLS itself refuses a certificate, and says why.
#[track_caller]
fn alerted(node: &Stranger, alert: &str) {
    wait::until(&format!("the alert {alert}"), || {
        let refused = block_on(node.mint()).unwrap_err();
        assert!(refused.code.is_empty(), "{refused:?}");
        refused.message.contains(alert).then_some(())
    });
}

#[test]
fn certificates_that_are_not_good_open_nothing() {
    let server = Server::start(&[]);
    let mut node = Stranger::joined(&server, "mallory");
    let (good, uri, thief) = (node.chain.clone(), uri_of(&node), Thief::of(&server));
    assert!(block_on(node.mint()).is_ok());

    let foreign = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(params, foreign);
    node.chain = vec![leaf(&uri, -60, 3_600).signed_by(&node.key, &issuer).unwrap().der().clone()];
    alerted(&node, "UnknownC");

    node.chain = vec![thief.certificate(&node.key, &uri, -7_200, -3_600)];
    alerted(&node, "CertificateExpired");

    node.chain = vec![thief.certificate(&node.key, &uri, 3_600, 7_200)];
    alerted(&node, "Certificate");

    // A stolen CA key makes any name, but no key of a node that the registry knows.
    let ghost = uri.replace("mallory", "ghost");
    node.chain = vec![thief.certificate(&node.key, &ghost, -60, 3_600)];
    let refused = block_on(node.mint()).unwrap_err();
    assert_eq!(refused.code, "CX-0509", "a node that never joined: {refused:?}");
    let nodes = server.nodes();
    let local = nodes.iter().find(|n| n["node"] != "mallory").unwrap();
    let local = local["node"].as_str().unwrap().to_owned();
    node.chain = vec![thief.certificate(&node.key, &uri.replace("mallory", &local), -60, 3_600)];
    let refused = block_on(node.mint()).unwrap_err();
    assert_eq!(refused.code, "CX-0505", "another node's name: {refused:?}");
    assert!(!refused.hint.is_empty());

    node.chain = good;
    assert!(block_on(node.mint()).is_ok());
    still_serves(&server);
}

/// Sends bytes and returns what comes back until the server hangs up.
fn answer(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut all = Vec::new();
    // A reset is an end, too.
    stream.read_to_end(&mut all).ok();
    all
}

/// A client hello that knows TLS 1.2 and nothing newer.
fn hello_of_tls_1_2() -> Vec<u8> {
    let extensions: [&[u8]; 3] =
        [&[0, 10, 0, 4, 0, 2, 0, 23], &[0, 11, 0, 2, 1, 0], &[0, 13, 0, 6, 0, 4, 4, 3, 8, 4]];
    let extensions = extensions.concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let mut record = vec![22, 3, 1];
    record.extend(u16::try_from(body.len() + 4).unwrap().to_be_bytes());
    record.push(1);
    record.extend(&length[1..]);
    record.extend(body);
    record
}

#[test]
fn what_is_not_tls_1_3_gets_no_answer_but_an_alert() {
    let server = Server::start(&[]);
    let to = address(&server);
    let preface =
        answer(to, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00");
    assert!(
        !preface.windows(3).any(|w| w == [0, 0, 0]) && preface.len() < 16,
        "plain HTTP/2: {preface:?}"
    );
    let plain = answer(to, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(!String::from_utf8_lossy(&plain).contains("HTTP"), "plain HTTP: {plain:?}");
    // Alert, fatal, protocol_version.
    let old = answer(to, &hello_of_tls_1_2());
    assert_eq!(old.get(..1), Some(&[21][..]), "{old:?}");
    assert_eq!(old.get(5..), Some(&[2, 70][..]), "TLS 1.2: {old:?}");
    let noise: Vec<u8> = (0..4_096_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    assert!(answer(to, &noise).len() < 16);
    still_serves(&server);
}

/// Something that listens where a machine wants to join, says these bytes to each that comes, and counts what it hears.
fn pretender(says: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = heard.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = [0; 16 * 1024];
            let first = stream.read(&mut bytes).unwrap_or(0);
            counter.fetch_add(first, Ordering::SeqCst);
            stream.write_all(says).ok();
            let rest = stream.read(&mut bytes).unwrap_or(0);
            // An alert has seven bytes; a token would have many more.
            assert!(rest < 32, "{rest} bytes followed");
        }
    });
    (url, heard)
}

#[test]
fn a_machine_tells_apart_what_is_no_tls_what_is_too_old_and_what_is_not_there() {
    let server = Server::start(&["--no-agent"]);
    let machine = Machine::new(&server, "m1");
    let token = join_token(&server, &[]);
    let (http, heard) = pretender(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    machine.join(&http, &token, &[]).with(1).complains(&["CX-0544", "hint: check the port"]);
    assert!(heard.load(Ordering::SeqCst) > 0, "nobody came");
    let (old, _) = pretender(&[21, 3, 3, 0, 2, 2, 70]);
    machine.join(&old, &token, &[]).with(1).complains(&["CX-0544"]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    machine.join(&format!("https://{nobody}"), &token, &[]).with(1).complains(&["CX-0801", "hint"]);
    machine.join("http://127.0.0.1:1", &token, &[]).with(1).complains(&["CX-0803", "https"]);
    // The wish was kept, so the same machine can go on with the right address.
    machine.join(&url(&server), &token, &[]).ok();
}

#[test]
fn a_machine_shows_its_token_only_to_the_server_that_the_token_names() {
    let (right, wrong) = (Server::start(&["--no-agent"]), Server::start(&["--no-agent"]));
    let machine = Machine::new(&right, "m1");
    let token = join_token(&right, &[]);
    let refused = machine.join(&url(&wrong), &token, &[]).with(1);
    refused.complains(&["CX-0523", "fingerprint", "hint"]);
    // The token was not used up, and not spoilt: nobody else has seen it.
    machine.join(&url(&right), &token, &[]).ok();
    assert!(!is_online(&right, "m1"));
}

#[test]
fn a_node_in_front_of_a_server_with_another_authority_says_so_and_waits() {
    let (mut home, other) = (Server::start(&["--no-agent"]), Server::start(&["--no-agent"]));
    let mut machine = Machine::joined(&home, "m1");
    drop(home.terminate());
    // What answers at the node's address now is another deployment.
    let file = machine.dir.join("identity/identity.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(&url(&home), &url(&other))).unwrap();
    machine.launch();
    machine.until_it_logs("CX-0523");
    machine.kill();
}

#[test]
fn an_agent_whose_certificate_is_of_another_authority_says_so_and_what_helps() {
    let server = Server::start(&["--no-agent"]);
    let mut machine = Machine::joined(&server, "m1");
    let status = machine.agent(&["status", "--json"]).ok().json();
    let domain = status["trust_domain"].as_str().unwrap();
    let uri = format!("spiffe://{domain}/workspace/default/node/m1");
    let identity = machine.dir.join("identity");
    let key = std::fs::read_to_string(identity.join("key.pem")).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let foreign = Issuer::new(params, KeyPair::generate().unwrap());
    let key = KeyPair::from_pem(&key).unwrap();
    let shown = leaf(&uri, -60, 3_600).signed_by(&key, &foreign).unwrap();
    let file = identity.join("identity.json");
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    kept["standing"]["certified"]["chain"] = json!([STANDARD.encode(shown.der())]);
    std::fs::write(&file, kept.to_string()).unwrap();
    machine.launch();
    machine.until_it_logs("CX-0501");
    machine.until_it_logs("the server refuses this node's certificate");
    machine.until_it_logs("a certificate of another authority needs a new join");
    assert!(!is_online(&server, "m1"));
    let mut other = Machine::joined(&server, "m2");
    other.launch();
    other.until_online(&server);
    still_serves(&server);
}
