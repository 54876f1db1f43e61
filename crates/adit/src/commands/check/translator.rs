//! What `adit check` tries for a translator beside its addresses: its certificate, and every upstream.

use std::sync::Arc;

use adit_translator::server::{Tls, UpstreamTarget};

use super::Report;
use crate::commands::keys;
use crate::config::{TlsSettings, TranslatorSettings, payee};

/// What a translator needs beside its addresses.
pub(super) async fn check_translator(settings: &TranslatorSettings, report: &mut Report) {
    if let Some(tls) = &settings.tls {
        check_tls(tls, report);
    }
    // All at once, because one that is not there takes its time.
    let role = Arc::new(settings.role.clone());
    let probe = |upstream| {
        let role = Arc::clone(&role);
        tokio::spawn(async move { role.probe(upstream).await })
    };
    let probes: Vec<_> = (0..role.upstreams.len()).map(probe).collect();
    for (target, probe) in role.upstreams.iter().zip(probes) {
        match probe.await {
            Ok(Ok(())) => report.good("upstream", &format!("{} takes miners", target.pool.address())),
            Ok(Err(error)) => {
                let error = error.to_string();
                // Many errors say themselves what to do.
                let advice = if error.contains(';') { "" } else { advice(target) };
                report.bad("upstream", &format!("{}: {error}{advice}", target.pool.address()));
            }
            Err(error) => report.bad("upstream", &format!("{}: {error}", target.pool.address())),
        }
        describe(target, report);
    }
}

/// What else may be wrong where a pool is not one.
fn advice(target: &UpstreamTarget) -> &'static str {
    if target.pool.is_legacy() {
        "; is it the address of an SV1 pool?"
    } else {
        "; compare host and port with what the pool shows, and look for a firewall in the way"
    }
}

/// What an operator may not have meant.
fn describe(target: &UpstreamTarget, report: &Report) {
    let UpstreamTarget { pool, user, expects, password: _ } = target;
    if pool.is_legacy() {
        let text = format!(
            "{pool} speaks SV1, neither encrypted nor authenticated: anyone on the way can take the work"
        );
        report.warn("upstream", &text);
    }
    if let (Some(expects), Ok((script, _))) = (expects, payee(user))
        && expects.script != script
    {
        let text = format!(
            "{}: blocks must pay somebody else (pays) than the user {user} names; right only where the pool pays users by itself, \
             from blocks that pay the pool",
            pool.address()
        );
        report.warn("upstream", &text);
    }
}

/// The certificate and the key that machines are served with over TLS.
fn check_tls(tls: &TlsSettings, report: &mut Report) {
    match Tls::read(&tls.certificate, &tls.key) {
        Ok(_) => {
            report.good("tls", &format!("{} and its key can be served with", tls.certificate.display()));
        }
        Err(error) => return report.bad("tls", &error.to_string()),
    }
    // Other programs of this machine may use the same key, by way of a group.
    if let Ok(Some(complaint)) = keys::open_to_others(&tls.key) {
        report.warn("tls", &complaint);
    }
}
