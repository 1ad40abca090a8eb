//! Questions to an audience, and answers that travel no wider than what they are about.

use crate::support::{Three, code, huecry, json_of, run, stderr, stdout, until};

#[test]
fn a_question_reaches_its_readers_and_their_sightings_answer_it() {
    let three = Three::new().and("xb-police");
    let (police, xb) = (three.of("police"), three.of("xb-police"));
    let _running = [three.start("agency"), three.start("police"), three.start("xb-police")];
    let asked = json_of(&run(&police, &["--json", "ask", "evil[.]example", "--text", "Seen since Monday?", "--days", "7"]));
    let reference = asked["reference"].as_str().unwrap().to_owned();
    until("it to be asked", || code(&huecry(&xb, &["ask"])) == 0);
    let said = stdout(&run(&xb, &["ask"]));
    assert!(said.contains("evil[.]example: Seen since Monday?") && said.contains("nobody has answered yet"), "{said}");
    run(&xb, &["sighting", &reference, "--count", "12", "--country", "XB", "--note", "two resolvers"]);
    run(&three.of("agency"), &["sighting", "EVIL.example.", "--channel", "indicators", "--tlp", "green"]);
    let answers = || json_of(&run(&police, &["--json", "ask", &reference]))[0]["answers"].as_array().cloned().unwrap_or_default();
    until("both to answer", || answers().len() == 2);
    let said = stdout(&run(&police, &["ask", "--ours"]));
    assert!(
        said.contains("xb-police  seen 12x in XB") && said.contains(": two resolvers") && said.contains("xx-agency  seen 1x"),
        "{said}"
    );
    assert_eq!(code(&huecry(&xb, &["ask", "--ours"])), 1);
}

#[test]
fn p_09_what_is_said_about_a_record_stays_among_those_who_may_have_it() {
    let three = Three::new().and("xb-police");
    let (police, xb) = (three.of("police"), three.of("xb-police"));
    run(&police, &["card", "channel", "leads=named:xb-police"]);
    let _running = [three.start("agency"), three.start("police"), three.start("xb-police")];
    let asked = json_of(&run(&police, &["--json", "ask", "192.0.2.9", "--channel", "leads", "--tlp", "red"]));
    let reference = asked["reference"].as_str().unwrap().to_owned();
    until("it to be asked", || code(&huecry(&xb, &["ask", &reference])) == 0);
    // With no channel of the same readers, in a wider one, with a weaker marking: refused, and nothing leaves.
    let none = huecry(&xb, &["sighting", &reference]);
    assert!(
        code(&none) == 2 && stderr(&none).contains("no channel of ours reaches xa-police and nobody outside of named:xb-police"),
        "{}",
        stderr(&none)
    );
    let wide = huecry(&xb, &["sighting", &reference, "--channel", "indicators", "--tlp", "green"]);
    assert!(code(&wide) == 2 && stderr(&wide).contains("at least that"), "{}", stderr(&wide));
    run(&xb, &["card", "channel", "answers=named:xa-police,xx-agency"]);
    let wide = huecry(&xb, &["sighting", &reference, "--channel", "answers"]);
    assert!(code(&wide) == 2 && stderr(&wide).contains("reaches xx-agency, who may not have"), "{}", stderr(&wide));
    run(&xb, &["card", "channel", "back=named:xa-police"]);
    until("the card to be in force", || code(&huecry(&xb, &["sighting", &reference])) == 0);
    let answers = || json_of(&run(&police, &["--json", "ask", &reference]))[0]["answers"].as_array().cloned().unwrap_or_default();
    until("the answer to come", || answers().len() == 1);
    assert_eq!(code(&huecry(&three.of("agency"), &["ask"])), 1, "nobody else knows of question or answer");
}
