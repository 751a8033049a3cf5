//! What `tandem doctor` says of the outside issuers: whether their keys can be had, and are of use.
//!
//! Never shows a token, and brings none.

use super::{Notes, Report};
use crate::auth::issuers::{FetchError, probe};
use crate::config::Settings;
use crate::config::issuers::{Issuer, load};

/// Asks every issuer for its keys, as the hub does.
pub(super) async fn examine(report: &mut Report, settings: &Settings) {
    let Some(path) = &settings.auth.issuers_file else {
        return;
    };
    let mut notes = report.of("issuers");
    match load(path) {
        Ok(issuers) => {
            for issuer in &issuers {
                ask(&mut notes, issuer).await;
            }
        }
        Err(problems) => {
            for problem in problems {
                let says = format!("{}: {}", problem.at, problem.why);
                notes.fail("file", says, "correct it, and try again");
            }
        }
    }
}

async fn ask(notes: &mut Notes<'_>, issuer: &Issuer) {
    let name = &issuer.issuer;
    let probe = match probe(issuer).await {
        Ok(probe) => probe,
        Err(error) => {
            notes.fail("keys", format!("{name}: {error}"), hint(&error));
            return;
        }
    };
    if probe.usable == 0 {
        notes.fail(
            "keys",
            format!(
                "{name}: no key at {} goes with the allowed algorithms",
                probe.keys_at
            ),
            "compare the issuer's signing algorithm with `algorithms` in the file",
        );
    } else {
        let plural = if probe.usable == 1 { "key" } else { "keys" };
        let says = format!("{name}: {} {plural} at {}", probe.usable, probe.keys_at);
        notes.ok("keys", says);
    }
    if !probe.left_out.is_empty() {
        let says = format!("{name}: of no use here: {}", probe.left_out.join("; "));
        notes.ok("other keys", says);
    }
}

fn hint(error: &FetchError) -> &'static str {
    match error {
        FetchError::Unreachable { .. } | FetchError::TooSlow { .. } => {
            "check the address, the network between, and, for a private authority, `ca`"
        }
        FetchError::Redirected { .. } => "write the address that it redirects to",
        FetchError::Status { .. } | FetchError::NotThat { .. } | FetchError::TooLarge { .. } => {
            "check `issuer`, or set `discovery` or `jwks_uri` to the right address"
        }
        FetchError::OtherIssuer { .. } => {
            "write the issuer to the letter as its document does, a slash at the end included"
        }
        FetchError::Authorities(_) => {
            "install the system's certificate authorities, or set `ca` to a PEM file"
        }
    }
}
