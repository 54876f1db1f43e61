//! Rules for manifests, dependencies and the order of the crates.

use std::collections::BTreeSet;
use std::process::Command;

use toml::{Table, Value};

use crate::repository::{Finding, Repository};

/// Name and version of every package that `package` depends on in a normal build, as `cargo tree` resolves it for this machine.
pub(crate) fn dependency_tree(package: &str, options: &[&str]) -> BTreeSet<(String, String)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "tree",
            "--offline",
            "--package",
            package,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args(options)
        .output()
        .expect("cargo runs this test, so it can be run");
    assert!(output.status.success(), "cargo tree failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    let packages: BTreeSet<_> = text.lines().filter_map(name_and_version).collect();
    assert!(
        packages.iter().any(|(name, _)| name == package),
        "cargo tree did not name {package} itself:\n{text}"
    );
    packages
}

/// `name v1.2.3 (...)` as its first two words.
fn name_and_version(line: &str) -> Option<(String, String)> {
    let (name, rest) = line.split_once(' ')?;
    Some((name.to_owned(), rest.split(' ').next()?.to_owned()))
}

/// A finding for each forbidden package that the tree holds.
pub(crate) fn absent(who: &str, tree: &BTreeSet<(String, String)>, forbidden: &[&str]) -> Vec<Finding> {
    let present = tree.iter().filter(|(name, _)| forbidden.contains(&name.as_str()));
    let finding = |(name, version): &(String, String)| Finding {
        place: "Cargo.lock".to_owned(),
        lesson: format!(
            "{who} must not depend on {name}, but holds {version}; `cargo tree -i {name}` shows who brings it: turn off the feature that does"
        ),
    };
    present.map(finding).collect()
}

/// What the manifests must agree on: one law of lints, folder names, a sentence of description, and the order of the crates.
pub(crate) fn check_manifests(repository: &Repository) -> Vec<Finding> {
    let root: Table = repository.text("Cargo.toml").parse().expect("cargo reads it too");
    let members = root["workspace"]["members"].as_array().expect("the workspace lists its members");
    let order: Vec<&str> =
        members.iter().map(|member| member.as_str().expect("a member is a path")).collect();
    let mut findings = unlisted_crates(repository, &order);
    for (position, folder) in order.iter().enumerate() {
        let place = format!("{folder}/Cargo.toml");
        let manifest: Table = repository.text(&place).parse().expect("cargo reads it too");
        let allowed: BTreeSet<String> = order[..position].iter().map(|folder| package_name(folder)).collect();
        findings.extend(check_manifest(&place, folder, &manifest, &allowed));
    }
    findings
}

/// Folders of `crates/` that the workspace does not list.
fn unlisted_crates(repository: &Repository, order: &[&str]) -> Vec<Finding> {
    let manifests = repository.files.iter().filter_map(|file| file.path.strip_suffix("/Cargo.toml"));
    let unlisted = manifests.filter(|folder| folder.starts_with("crates/") && !order.contains(folder));
    let lesson = "stands in no workspace; add it to `members` in the root Cargo.toml, at its place in the order of the crates";
    unlisted.map(|folder| Finding { place: folder.to_owned(), lesson: lesson.to_owned() }).collect()
}

/// The package that a workspace folder holds.
fn package_name(folder: &str) -> String {
    match folder.rsplit('/').next().unwrap_or(folder) {
        "adit" => "adit".to_owned(),
        name => format!("adit-{name}"),
    }
}

fn check_manifest(place: &str, folder: &str, manifest: &Table, allowed: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |lesson: String| findings.push(Finding { place: place.to_owned(), lesson });
    let package = &manifest["package"];
    if manifest.get("lints").and_then(|lints| lints.get("workspace")) != Some(&Value::Boolean(true)) {
        find("must have `[lints] workspace = true`, so that one law holds for all crates".to_owned());
    }
    if package["name"].as_str() != Some(package_name(folder).as_str()) {
        find(format!(
            "the package in {folder} is named {}, its folder with `adit-` before it",
            package_name(folder)
        ));
    }
    if !package.get("description").and_then(Value::as_str).is_some_and(|sentence| sentence.ends_with('.')) {
        find(
            "needs a `description`: one sentence with a full stop that says what the crate is for".to_owned(),
        );
    }
    let dependencies = manifest.get("dependencies").and_then(Value::as_table);
    for (name, requirement) in dependencies.into_iter().flatten() {
        if name.starts_with("adit-") && !allowed.contains(name) {
            find(format!(
                "depends on {name}, which comes later in the workspace's `members`; a crate uses those before it only"
            ));
        }
        if requirement.get("workspace") != Some(&Value::Boolean(true)) {
            find(format!(
                "`{name}` must be `workspace = true`; its version stands once, in the root Cargo.toml"
            ));
        }
    }
    findings
}

#[test]
fn a_manifest_that_breaks_the_laws_is_found() {
    let allowed = BTreeSet::from(["adit-units".to_owned()]);
    let good = "[package]\nname = \"adit-x\"\ndescription = \"A thing.\"\n[dependencies]\nadit-units.workspace = true\n[lints]\nworkspace = true\n";
    let count = |text: &str| check_manifest("p", "crates/x", &text.parse().unwrap(), &allowed).len();
    assert_eq!(count(good), 0);
    for (from, to) in [
        ("workspace = true\n[lints]\nworkspace = true", "workspace = true"),
        ("adit-x", "x"),
        ("A thing.", "A thing"),
        ("adit-units", "adit-pool"),
        ("adit-units.workspace = true", "adit-units = \"1\""),
    ] {
        assert_ne!(good.replace(from, to), good, "{from}");
        assert_eq!(count(&good.replace(from, to)), 1, "{from} -> {to}");
    }
}

#[test]
fn a_forbidden_package_is_found() {
    let tree = BTreeSet::from([("tokio".to_owned(), "v1.0.0".to_owned())]);
    assert_eq!(absent("x", &tree, &["tokio"]).len(), 1);
    assert!(absent("x", &tree, &["mio"]).is_empty());
    assert_eq!(name_and_version("ring v0.17.14 (*)"), Some(("ring".to_owned(), "v0.17.14".to_owned())));
}
