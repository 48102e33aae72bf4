//! The content of a package, for programs that look for known vulnerabilities: CycloneDX 1.5, as JSON.

use crate::Bundled;
use crate::crates::Crate;
use serde_json::{Value, json};

pub fn text(package: &str, version: &str, crates: &[Crate], bundled: &[&Bundled]) -> anyhow::Result<String> {
    let own = format!("pkg:deb/coft/{package}@{}", encoded(version));
    let mut components: Vec<Value> = Vec::new();
    let mut dependencies: Vec<Value> = Vec::new();
    let mut direct: Vec<String> = Vec::new();
    for one in crates {
        let id = purl(&one.name, &one.version);
        let mut component = json!({
            "type": "library",
            "bom-ref": id,
            "name": one.name,
            "version": one.version,
            "purl": id,
            "licenses": [{ "expression": one.licence }],
        });
        if let Some(sha256) = &one.sha256 {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
        }
        if let Some(url) = &one.repository {
            component["externalReferences"] = json!([{ "type": "vcs", "url": url }]);
        }
        let mut depends_on: Vec<String> = one.depends_on.iter().map(|(name, version)| purl(name, version)).collect();
        if let Some(code) = &one.bundles {
            let id = format!("pkg:generic/{}@{}", code.name, code.version);
            components.push(json!({
                "type": "library",
                "bom-ref": id,
                "name": code.name,
                "version": code.version,
                "purl": id,
                "licenses": [{ "expression": code.licence }],
            }));
            depends_on.push(id);
        }
        if one.is_ours {
            direct.push(id.clone());
        }
        depends_on.sort();
        dependencies.push(json!({ "ref": id, "dependsOn": depends_on }));
        components.push(component);
    }
    for library in bundled {
        let id = format!("{}@{}", library.url, library.version);
        components.push(json!({
            "type": "library",
            "bom-ref": id,
            "name": library.name,
            "version": library.version,
            "purl": id,
            "licenses": [{ "expression": library.licence }],
            // The hash of the wheel that the library was taken from.
            "hashes": [{ "alg": "SHA-256", "content": library.sha256 }],
        }));
        direct.push(id);
    }
    dependencies.push(json!({ "ref": own, "dependsOn": direct }));
    let bom = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": { "type": "application", "bom-ref": own, "name": package, "version": version, "purl": own },
        },
        "components": components,
        "dependencies": dependencies,
    });
    Ok(serde_json::to_string_pretty(&bom)? + "\n")
}

fn purl(name: &str, version: &str) -> String {
    format!("pkg:cargo/{name}@{}", encoded(version))
}

/// Encodes a version for a package URL.
fn encoded(version: &str) -> String {
    version.replace('+', "%2B").replace('~', "%7E")
}
