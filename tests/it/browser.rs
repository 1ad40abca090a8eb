//! The dashboard in a real browser: Debian's Chromium, driven by `tests/browser/page.mjs`.

use crate::{
    support::{huecry, json_of, run, start, until},
    window::{open_window, token},
};
use std::{path::Path, process::Command};

/// Texts that run something where a page reads them as markup, or that turn a line around.
fn payloads() -> Vec<String> {
    let forms = [
        "<script>window.ran=1</script>",
        "<img src=x onerror=window.ran=1>",
        "<svg onload=window.ran=1>",
        "\"><script>window.ran=1</script>",
        "'><img src=//evil.example/x onerror=window.ran=1>",
        "</script><script>window.ran=1</script>",
        "<a href=javascript:window.ran=1>x</a>",
        "javascript:window.ran=1",
        "<iframe srcdoc='<script>parent.ran=1</script>'>",
        "<math><mtext></table><img src=x onerror=window.ran=1>",
        "{{constructor.constructor('window.ran=1')()}}",
        "${window.ran=1}",
        "<style>@import '//evil.example/x.css';</style>",
        "<link rel=stylesheet href=//evil.example/x.css>",
        "<details open ontoggle=window.ran=1>",
        "<body onpageshow=window.ran=1>",
        "<template><script>window.ran=1</script></template>",
        "<noscript><p title='</noscript><img src=x onerror=window.ran=1>'>",
        "data:text/html,<script>opener.ran=1</script>",
        "<object data=//evil.example/x.swf>",
        "<form action=//evil.example><button>",
        "<base href=//evil.example/>",
        "<meta http-equiv=refresh content='0;url=//evil.example'>",
        "\u{202e}<script>window.ran=1</script>",
        "&lt;img src=x onerror=window.ran=1&gt;",
        "<!--><img src=x onerror=window.ran=1>-->",
        "<x contenteditable onblur=window.ran=1 tabindex=1 autofocus>",
        "<input autofocus onfocus=window.ran=1>",
        "<video><source onerror=window.ran=1></video>",
        "\u{5d0}\u{5d1}\u{5d2} <b onmouseover=window.ran=1>",
    ];
    (0..300).map(|number| format!("{} {number}", forms[number % forms.len()])).collect()
}

/// A STIX bundle in which every text that is shown is one of those.
fn hostile_bundle() -> String {
    let texts = payloads();
    let id = |kind: &str, number: usize| format!("{kind}--0d0d0d0d-0000-4000-8000-{number:012}");
    let mut objects = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let quoted = text.replace('\\', "\\\\").replace('\'', "\\'");
        objects.push(serde_json::json!({
            "type": "indicator", "spec_version": "2.1", "id": id("indicator", number), "created": "2026-01-01T00:00:00.000Z",
            "modified": "2026-01-01T00:00:00.000Z", "name": text, "pattern": format!("[file:name = '{quoted}']"), "pattern_type": "stix",
            "valid_from": "2026-01-01T00:00:00.000Z", "labels": ["hostile"],
        }));
    }
    for (number, some) in texts.chunks(30).enumerate() {
        let refs: Vec<String> = (0..some.len()).map(|at| id("indicator", number * 30 + at)).collect();
        objects.push(serde_json::json!({
            "type": "report", "spec_version": "2.1", "id": id("report", number), "created": "2026-01-01T00:00:00.000Z",
            "modified": "2026-01-01T00:00:00.000Z", "name": format!("hostile {}", some[number % 30]), "published": "2026-01-01T00:00:00.000Z", "object_refs": refs,
        }));
    }
    serde_json::json!({ "type": "bundle", "id": id("bundle", 0), "objects": objects }).to_string()
}

#[test]
fn g_28_x_07_people_find_explain_take_back_and_let_in_and_no_text_of_others_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("HUECRY_INTEROP").is_none() {
        println!("skipped: HUECRY_INTEROP is not set, so there may be no browser");
        return;
    }
    let outlets =
        "[[outlets]]\nname = \"resolver\"\ntypes = [\"domain\"]\nformat = \"rpz\"\n[[outlets]]\nname = \"firewall\"\ntypes = [\"ipv4\"]\n";
    let (data, port) = open_window(&format!("{outlets}[[lists]]\nname = \"ours\"\nfile = \"ours.txt\"\nrole = \"own\"\n"));
    std::fs::write(data.path().join("ours.txt"), "203.0.113.0/24\n").unwrap();
    let _node = start(data.path());
    let file = |name: &str, text: &str| {
        std::fs::write(data.path().join(name), text).unwrap();
        data.path().join(name).to_str().unwrap().to_owned()
    };
    let about = ["--confidence", "90", "--valid-days", "30", "--tlp", "green"];
    run(data.path(), &[&["publish", &file("list.txt", "evil.example\n192.0.2.7\n203.0.113.9\n"), "--use", "block"][..], &about].concat());
    run(data.path(), &[&["import", &file("hostile.json", &hostile_bundle())][..], &about].concat());
    let outlet = || json_of(&huecry(data.path(), &["--json", "outlets"]))[0].clone();
    until("a line to be watched", || outlet()["origins"][0]["monitored"] == 1);
    run(data.path(), &["outlets", "promote", "resolver"]);
    run(data.path(), &["outlets", "promote", "resolver", "--origin", "xx-agency"]);
    until("the line to be enforced", || outlet()["lines"] == 1);
    let (all, reader) = (token(data.path(), &["desk"]), token(data.path(), &["visitor", "--roles", "reads"]));
    let place = root.join("target/interop/browser");
    std::fs::copy(root.join("tests/browser/page.mjs"), place.join("page.mjs")).unwrap();
    let mut browser = Command::new("node");
    browser.current_dir(&place).args(["page.mjs", &port.to_string(), &all, &reader]).arg(root.join("tests/browser/shots"));
    browser.arg(env!("CARGO_BIN_EXE_huecry")).arg(data.path());
    if std::env::var_os("HUECRY_BLESS").is_some() {
        browser.arg("bless");
    }
    let output = browser.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}");
    assert!(said.contains("ok: no payload ran"), "{said}");
}
