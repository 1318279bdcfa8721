//! A certificate of a company CA in front of a server: shown to everybody, read again when its files change, and never in the way of
//! agents and the command line, which know the server by its own authority.

use crate::machine::{Machine, address, join_token, still_serves, url};
use crate::raw::{Stranger, block_on};
use crate::support::{Server, wait};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A CA that has nothing to do with the deployment.
struct Company {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    dir: PathBuf,
}

impl Company {
    fn new(dir: &Path) -> Company {
        std::fs::create_dir_all(dir).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Company { issuer: Issuer::new(params, key), root, dir: dir.to_owned() }
    }

    /// Writes a new certificate and its key, each file whole, and returns the certificate.
    fn renew(&self, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["localhost".into(), "127.0.0.1".into()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write("cert.pem", &certificate.pem());
        self.write("key.pem", &key.serialize_pem());
        certificate.der().clone()
    }

    fn write(&self, name: &str, text: &str) {
        let (part, path) = (self.dir.join("part"), self.dir.join(name));
        std::fs::write(&part, text).unwrap();
        std::fs::set_permissions(&part, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(part, path).unwrap();
    }

    fn flags(&self) -> [String; 4] {
        let file = |name: &str| self.dir.join(name).to_str().unwrap().to_owned();
        ["--tls-cert".into(), file("cert.pem"), "--tls-key".into(), file("key.pem")]
    }
}

fn company(home: &Server) -> Company {
    Company::new(&home.path("company"))
}

/// Somebody who trusts the company only, and does not ask for anything.
fn outsider(server: &Server, company: &Company) -> Stranger {
    Stranger::new(server).trusting(vec![company.root.clone()])
}

#[test]
fn a_given_certificate_is_shown_to_others_and_agents_go_on_knowing_the_servers_own() {
    let mut server = Server::prepare(&[]);
    let company = company(&server);
    let first = company.renew(|_| {});
    server.set_args(&company.flags().each_ref().map(String::as_str));
    // The agent beside it and every command of these tests pin the authority.
    server.up();
    let other = outsider(&server, &company);
    assert_eq!(block_on(other.shown()).unwrap(), first);
    assert!(
        block_on(Stranger::new(&server).shown()).is_err(),
        "who asks for nothing gets the other"
    );
    let mut machine = Machine::joined(&server, "m1");
    machine.launch();
    machine.until_online(&server);

    let second = company.renew(|_| {});
    wait::until("the new certificate", || (block_on(other.shown()).ok()? == second).then_some(()));
    still_serves(&server);

    // A key of another certificate: the server says so and goes on.
    company.write("key.pem", &KeyPair::generate().unwrap().serialize_pem());
    wait::until("the refusal in the log", || {
        let said = server.up_process().stderr();
        (said.contains("CX-0528") && said.contains("not the key of the certificate")).then_some(())
    });
    assert_eq!(block_on(other.shown()).unwrap(), second);
    machine.kill();
    machine.launch();
    machine.until_online(&server);
    let third = company.renew(|_| {});
    wait::until("the repaired certificate", || {
        (block_on(other.shown()).ok()? == third).then_some(())
    });
    still_serves(&server);
}

#[test]
fn a_certificate_that_cannot_be_used_keeps_a_server_from_starting_and_is_named() {
    let home = Server::prepare(&[]);
    let company = company(&home);
    let flags = company.flags();
    let start = |flags: &[String]| {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        home.cortex(&[&["up", "--no-agent"], &flags[..]].concat()).with(125)
    };
    start(&flags).complains(&["CX-0528", "cert.pem", "hint"]);
    company.renew(|_| {});
    company.write("key.pem", &KeyPair::generate().unwrap().serialize_pem());
    start(&flags).complains(&["CX-0528", "key.pem", "not the key of the certificate"]);
    company.write("key.pem", "nonsense");
    start(&flags).complains(&["CX-0528", "no private key in PEM"]);
    company.renew(|_| {});
    company.write("cert.pem", "nonsense");
    start(&flags).complains(&["CX-0528", "no certificate in PEM"]);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    company.renew(|params| params.not_after = epoch + Duration::from_secs(1_000_000_000));
    start(&flags).complains(&["CX-0528", "ran out"]);
    company.renew(|_| {});
    let key = company.dir.join("key.pem");
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o644)).unwrap();
    start(&flags).complains(&["CX-0706", "chmod"]);
    start(&flags[..2]).complains(&["CX-0803", "--tls-key"]);
}

#[test]
fn a_token_that_was_made_behind_a_given_certificate_still_pins_the_authority() {
    let mut server = Server::prepare(&[]);
    let company = company(&server);
    company.renew(|_| {});
    let flags = company.flags();
    server.set_args(&[&["--no-agent"], &flags.each_ref().map(String::as_str)[..]].concat());
    server.up();
    let other = Server::start(&["--no-agent"]);
    let machine = Machine::new(&server, "m1");
    let token = join_token(&server, &[]);
    // Whatever certificate of whoever is in front: the fingerprint in the token decides.
    machine.join(&url(&other), &token, &[]).with(1).complains(&["CX-0523"]);
    machine.join(&url(&server), &token, &[]).ok();
    assert_ne!(address(&server), address(&other));
}
