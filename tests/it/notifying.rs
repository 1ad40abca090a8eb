//! Who is told of what nobody should have to look for: by a real server of mail, by syslog, by a program that listens.

use crate::{
    enforcing::Pair,
    support::{code, huecry, json_of, port, run, stderr, stdout, until},
    tools::serve,
};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

/// A program that listens: keeps what is posted to it, and answers as it is told.
struct Listener {
    port: u16,
    bodies: Arc<Mutex<Vec<(String, Value)>>>,
    answers: Arc<AtomicU16>,
}

impl Listener {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = Self { port: listener.local_addr().unwrap().port(), bodies: Arc::default(), answers: Arc::new(AtomicU16::new(200)) };
        let (bodies, answers) = (Arc::clone(&one.bodies), Arc::clone(&one.answers));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut line) = (String::new(), String::new());
                while lines.read_line(&mut line).is_ok_and(|read| read > 2) {
                    head.push_str(&std::mem::take(&mut line));
                }
                let length = head
                    .to_ascii_lowercase()
                    .split("content-length: ")
                    .nth(1)
                    .and_then(|rest| rest.lines().next()?.parse().ok())
                    .unwrap_or(0);
                let mut body = vec![0; length];
                if head.is_empty() || lines.read_exact(&mut body).is_err() {
                    continue;
                }
                let status = answers.load(Ordering::SeqCst);
                if status == 200 {
                    bodies.lock().unwrap().push((head, serde_json::from_slice(&body).unwrap_or_default()));
                }
                write!(stream, "HTTP/1.1 {status} As told\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok();
            }
        });
        one
    }

    fn notices(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let bodies = self.bodies.lock().unwrap();
        let all = bodies.iter().flat_map(|(_, body)| body["notices"].as_array().cloned().unwrap_or_default());
        all.map(|notice| (text(&notice["what"]), text(&notice["text"]))).collect()
    }

    fn has(&self, what: &str, words: &[&str]) -> bool {
        self.notices().iter().any(|(one, text)| one == what && words.iter().all(|word| text.contains(word)))
    }
}

const OURS: &str = "[[lists]]\nname = \"ours\"\nfile = \"lists/ours.txt\"\nrole = \"own\"\n\
                    [[outlets]]\nname = \"resolver\"\ntypes = [\"domain\"]\n\
                    [[searches]]\nname = \"brand\"\nvalue = \"*.brand.example\"\n\
                    [[searches]]\nname = \"teapots\"\ntext = \"teapot\"\n";

fn webhook(name: &str, port: u16, more: &str) -> String {
    format!("[[notify]]\nname = \"{name}\"\nwebhook = \"http://127.0.0.1:{port}/hook\"\nallow = [\"127.0.0.0/8\"]\ngather_s = 1\n{more}\n")
}

#[test]
fn a_program_hears_of_our_assets_of_searches_and_of_what_was_taken_back_while_we_enforced_it() {
    let (all, some) = (Listener::new(), Listener::new());
    let hooks = [webhook("all", all.port, "token_file = \"hook.token\""), webhook("some", some.port, "on = [\"withdrawn\"]")].concat();
    let pair = Pair::new(&format!("{OURS}{hooks}"));
    pair.write("lists/ours.txt", "agency.example\n");
    pair.write("hook.token", "Bearer s3cret\n");
    run(&pair.vendor(), &["card", "channel", "leads=named:xx-agency"]);
    pair.start();
    // One who is new hears of what happens from now on.
    until("both to begin", || ["all", "some"].iter().all(|name| pair.agency().join(format!("notify/{name}.json")).exists()));
    pair.publish(&["a.agency.example", "www.brand.example", "evil.example", "other.example"], &["--confidence", "90", "--source", "own"]);
    until("our asset to be told", || {
        all.has("assets", &["some-vendor names what is ours", "a.agency[.]example (TLP:GREEN)", "`ours`", "held here"])
    });
    until("the search to be told", || all.has("searches", &["search `brand` finds", "www.brand[.]example"]));
    assert!(!all.notices().iter().any(|(_, text)| text.contains("other") || text.contains("evil")), "{:?}", all.notices());
    assert!(all.bodies.lock().unwrap().iter().all(|(head, _)| head.to_ascii_lowercase().contains("authorization: bearer s3cret")));
    // Of what is marked above, that it is there.
    let list = pair.place.path().join("leads.txt");
    std::fs::write(&list, "b.agency.example\n").unwrap();
    let amber = ["--channel", "leads", "--tlp", "amber", "--title", "Operation Teapot"];
    run(&pair.vendor(), &[&["publish", list.to_str().unwrap()][..], &amber].concat());
    until("the lead to be told", || {
        all.has("assets", &["a record marked TLP:AMBER"]) && all.has("searches", &["a record marked TLP:AMBER: some-vendor/leads#"])
    });
    assert!(
        !all.notices().iter().any(|(_, text)| text.contains("b.agency") || text.contains("Operation") || text.contains("teapots")),
        "{:?}",
        all.notices()
    );
    // What was enforced and is taken back.
    pair.until_monitored(3);
    pair.promote();
    run(&pair.vendor(), &["withdraw", "evil.example", "other.example", "--reason", "wrong"]);
    let both =
        || ["evil[.]example", "other[.]example"].iter().all(|name| some.has("withdrawn", &["some-vendor took back", name, "at resolver"]));
    until("what was taken back to be told", both);
    assert!(some.notices().iter().all(|(what, _)| what == "withdrawn"), "{:?}", some.notices());
    // Nothing is told twice.
    std::thread::sleep(Duration::from_millis(2_500));
    let mut notices = all.notices();
    let count = notices.len();
    notices.sort();
    notices.dedup();
    assert_eq!(notices.len(), count, "{notices:?}");
}

#[test]
fn a_server_that_is_away_gets_it_later_also_after_a_kill_and_the_status_says_so() {
    let hook = Listener::new();
    let pair = Pair::new(&format!("{OURS}{}", webhook("siem", hook.port, "on = [\"assets\", \"searches\"]")));
    pair.write("lists/ours.txt", "agency.example\n");
    pair.start();
    until("it to begin", || pair.agency().join("notify/siem.json").exists());
    hook.answers.store(503, Ordering::SeqCst);
    pair.publish(&["a.agency.example"], &["--confidence", "90"]);
    let alarms = || json_of(&huecry(&pair.agency(), &["--json", "status"]))["alarms"].to_string();
    until("the status to say so", || alarms().contains("`siem` cannot be notified: 127.0.0.1 answers 503"));
    assert!(hook.notices().is_empty());
    let refused = huecry(&pair.agency(), &["notify", "test", "siem"]);
    assert!(code(&refused) == 2 && stderr(&refused).contains("answers 503"), "{}", stderr(&refused));
    pair.stop();
    hook.answers.store(200, Ordering::SeqCst);
    pair.start();
    until("it to be told after all", || hook.has("assets", &["a.agency[.]example"]));
    until("the status to be quiet", || !alarms().contains("notified"));
    assert!(stdout(&run(&pair.agency(), &["notify", "test", "siem"])).contains("has taken the message"));
    until("the test to come", || hook.has("alarms", &["nothing has happened"]));
    let unknown = huecry(&pair.agency(), &["notify", "test", "sien"]);
    assert!(code(&unknown) == 2 && stderr(&unknown).contains("did you mean `siem`"), "{}", stderr(&unknown));
}

#[test]
fn a_real_server_of_mail_takes_one_message_and_no_line_of_a_record_becomes_a_header() {
    if std::env::var_os("HUECRY_INTEROP").is_none() {
        return;
    }
    let mail = port();
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("mail.log");
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop/venv/bin/python");
    let _server = serve(python.to_str().unwrap(), &["-u", "-m", "aiosmtpd", "-n", "-l", &format!("127.0.0.1:{mail}")], &log);
    until("the server of mail", || TcpStream::connect(("127.0.0.1", mail)).is_ok());
    let notify = format!(
        "[[notify]]\nname = \"duty\"\nmail = [\"duty@police.example\", \"Second <second@police.example>\"]\n\
         server = \"smtp://127.0.0.1:{mail}\"\nfrom = \"huecry@police.example\"\ngather_s = 1\non = [\"searches\"]\n"
    );
    let pair = Pair::new(&format!("{OURS}{notify}"));
    pair.write("lists/ours.txt", "agency.example\n");
    pair.start();
    until("it to begin", || pair.agency().join("notify/duty.json").exists());
    let list = pair.place.path().join("list.txt");
    std::fs::write(&list, "www.brand.example\n").unwrap();
    run(
        &pair.vendor(),
        &["publish", list.to_str().unwrap(), "--title", "a teapot\u{202e}\u{7}\r\nBcc: eve@evil.example", "--confidence", "90"],
    );
    let taken = || std::fs::read_to_string(&log).unwrap();
    until("the message", || taken().contains("www.brand[.]example"));
    let text = taken();
    assert!(
        text.contains("duty@police.example") && text.contains("second@police.example") && text.contains("Content-Type: text/plain"),
        "{text}"
    );
    assert!(text.chars().all(|char| char == '\n' || char == '\r' || !char.is_control()) && !text.contains('\u{202e}'), "{text}");
    // Beyond this machine only with TLS.
    pair.stop();
    let config = pair.read("node.toml").replace(&format!("smtp://127.0.0.1:{mail}"), "smtp://mail.police.example:25");
    pair.write("node.toml", &config);
    let refused = huecry(&pair.agency(), &["notify", "test", "duty"]);
    assert!(code(&refused) == 2 && stderr(&refused).contains("only with TLS"), "{}", stderr(&refused));
}

#[test]
fn syslog_gets_a_line_for_each_thing_and_what_is_wrong_in_the_file_is_said_at_the_start() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let place = socket.local_addr().unwrap();
    let notify = format!("[[notify]]\nname = \"log\"\nsyslog = \"udp://{place}\"\ngather_s = 1\non = [\"searches\"]\n");
    let pair = Pair::new(&format!("{OURS}{notify}"));
    pair.write("lists/ours.txt", "agency.example\n");
    pair.start();
    until("it to begin", || pair.agency().join("notify/log.json").exists());
    pair.publish(&["www.brand.example"], &["--confidence", "90"]);
    let mut bytes = [0; 4_096];
    let length = socket.recv(&mut bytes).unwrap();
    let line = String::from_utf8_lossy(&bytes[..length]).into_owned();
    // RFC 5424: facility local0, severity warning, version 1.
    assert!(
        line.starts_with("<132>1 ")
            && line.contains(" huecry ")
            && line.contains("xx-agency searches: search `brand` finds www.brand[.]example"),
        "{line}"
    );
    pair.stop();
    let whole = pair.read("node.toml");
    for (from, to, why) in [
        ("syslog = \"udp", "webhook = \"https://siem.example\"\nsyslog = \"udp", "say one of"),
        ("on = [\"searches\"]", "on = [\"serches\"]", "did you mean `searches`"),
        ("on = [\"searches\"]", "tlp_max = \"blue\"", "blue"),
        ("value = \"*.brand.example\"", "value = \"*.\"", "search `brand`"),
        ("value = \"*.brand.example\"", "", "asks for nothing"),
        ("name = \"teapots\"", "name = \"brand\"", "is there twice"),
    ] {
        pair.write("node.toml", &whole.replace(from, to));
        let refused = huecry(&pair.agency(), &["status"]);
        assert!(code(&refused) == 2 && stderr(&refused).contains(why), "{to}: {}", stderr(&refused));
    }
}

#[test]
fn a_member_that_falls_silent_and_an_alarm_are_told_once() {
    let hook = Listener::new();
    let pair = Pair::new(&webhook("siem", hook.port, "on = [\"silent\"]\nsilent_hours = 0"));
    pair.start();
    until("it to begin", || pair.agency().join("notify/siem.json").exists());
    let connected =
        || json_of(&huecry(&pair.agency(), &["--json", "status"]))["network"]["peers"].as_array().is_some_and(|peers| !peers.is_empty());
    until("the vendor to be connected", connected);
    // It may have been told before the first connection.
    std::thread::sleep(Duration::from_millis(1_500));
    let before = hook.notices().len();
    pair.stop_vendor();
    until("its silence to be told", || hook.notices().len() > before);
    assert!(hook.has("silent", &["no node of some-vendor is connected since"]), "{:?}", hook.notices());
    let told = hook.notices().len();
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(hook.notices().len(), told, "once");
}
