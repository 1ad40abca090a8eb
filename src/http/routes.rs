//! The table of what may be asked: by which way, by whom, and what is said of it to programs.

use super::{
    ApiError, Local, access, agreements, bundle, care,
    contract::{Raw, Upload},
    documents, enforce, erase, export, held, journal, matching, metrics, news, notify, operators, policy, proofs, publish, pull, renew,
    roster, search, share, standby, status, talk, tokens, travel, withdraw,
};
use crate::config::Role;
use aide::{
    axum::{
        ApiRouter,
        routing::{get_with, post_with},
    },
    generate::in_context,
    openapi::{Info, OpenApi, Parameter, ParameterSchemaOrContent, ReferenceOr, SecurityScheme, Tag},
    transform::{TransformOpenApi, TransformOperation, TransformPathItem},
    util::iter_operations_mut,
};
use axum::{Router, extract::DefaultBodyLimit, http::header::CONTENT_TYPE, middleware::from_fn_with_state, response::IntoResponse};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use std::sync::LazyLock;

/// Longest JSON body.
const JSON_BYTES_MAX: usize = 1024 * 1024;
/// Where the description of all this is.
const DESCRIPTION_PATH: &str = "/v1/openapi.json";
/// What a program's author should know first.
const DESCRIPTION: &str = "What a huecry node answers on its own machine, or over TLS, to operators and their programs. Who asks is the \
    account at the other end of the node's socket, or a bearer token (`huecry token new`); answers hold nothing above what that one may see. \
    The header `huecry-reason` says why one asks, which a node may demand. Times are RFC 3339 in UTC, or milliseconds since 1970 where they \
    are numbers. TAXII 2.1 (`/taxii2/`), CrowdSec's decisions (`/v1/decisions`) and Prometheus' metrics (`/metrics`) are described by their \
    own standards.";

/// The window's routes.
pub fn router(local: Local) -> Router {
    let of = |role: Role| from_fn_with_state((local.clone(), role), operators::check);
    let routes = table().into_iter().fold(ApiRouter::new(), |all, (role, routes)| all.merge(routes.route_layer(of(role))));
    let router = routes.with_state(local).into();
    // The OpenAPI schemas are generated again on request: in memory they take as much as everything else that an empty node holds.
    in_context(|context| context.schema = SchemaGenerator::default());
    router
}

/// The description of these routes in the form of OpenAPI 3.1, made from the handlers' types.
pub fn openapi() -> OpenApi {
    let mut api = OpenApi::default();
    // aide would have the older draft, which is no part of OpenAPI 3.1.
    in_context(|context| {
        let schemas = |settings: &mut SchemaSettings| settings.definitions_path = "/components/schemas".into();
        context.schema = SchemaGenerator::new(SchemaSettings::draft2020_12().with(schemas));
    });
    let of = |(role, routes): (Role, ApiRouter<Local>)| routes.with_path_items(move |path| by(role, path));
    let routes = table().into_iter().map(of).fold(ApiRouter::new(), ApiRouter::merge);
    let _router = routes.finish_api_with(&mut api, head);
    name_operations(&mut api);
    api
}

fn head(api: TransformOpenApi<'_>) -> TransformOpenApi<'_> {
    let title = "huecry".to_owned();
    let info = Info { title, description: Some(DESCRIPTION.to_owned()), version: env!("CARGO_PKG_VERSION").to_owned(), ..Info::default() };
    let tag =
        |role: &Role| Tag { name: role.to_string(), description: Some(format!("For operators with the role `{role}`.")), ..Tag::default() };
    let token = SecurityScheme::Http {
        scheme: "bearer".to_owned(),
        bearer_format: None,
        description: Some("A token of this node: `huecry token new`.".to_owned()),
        extensions: Default::default(),
    };
    let api = api.info(info).security_scheme("token", token).security_requirement("token").default_response::<ApiError>();
    Role::ALL.iter().map(tag).fold(api, TransformOpenApi::tag)
}

fn by(role: Role, path: TransformPathItem<'_>) -> TransformPathItem<'_> {
    path.tag(&role.to_string())
}

/// Each operation is called by its method and path, for those who make a client of this.
fn name_operations(api: &mut OpenApi) {
    let paths = api.paths.iter_mut().flat_map(|paths| &mut paths.paths);
    for (path, item) in paths.filter_map(|(path, item)| Some((path, item.as_item_mut()?))) {
        for (method, operation) in iter_operations_mut(item) {
            let words = path.trim_start_matches("/v1").split(['/', '.']).filter(|word| !word.is_empty());
            operation.operation_id = Some(words.fold(method.to_owned(), |name, word| format!("{name}_{word}")));
            operation.parameters.iter_mut().filter_map(ReferenceOr::as_item_mut).for_each(never_null);
        }
    }
}

/// What may be left out behind a `?` is left out: there is no `null` there.
fn never_null(parameter: &mut Parameter) {
    let ParameterSchemaOrContent::Schema(schema) = &mut parameter.parameter_data_mut().format else { return };
    let types = schema.json_schema.as_object_mut().and_then(|schema| schema.get_mut("type")?.as_array_mut());
    if let Some(types) = types {
        types.retain(|name| name != "null");
    }
}

/// `GET /v1/openapi.json`.
async fn description() -> Raw<impl IntoResponse> {
    static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| serde_json::to_vec(&openapi()).unwrap_or_default());
    Raw(([(CONTENT_TYPE, "application/json")], TEXT.as_slice()))
}

fn says(text: &'static str) -> impl for<'t> FnOnce(TransformOperation<'t>) -> TransformOperation<'t> {
    move |operation| operation.summary(text)
}

/// As [`says`], of a request whose body is a file.
fn takes(text: &'static str) -> impl for<'t> FnOnce(TransformOperation<'t>) -> TransformOperation<'t> {
    move |operation| operation.summary(text).input::<Upload>()
}

/// Everything that may be asked, by the role it takes.
fn table() -> [(Role, ApiRouter<Local>); 5] {
    [
        (Role::Reads, reads()),
        (Role::Decides, decides()),
        (Role::Publishes, publishes()),
        (Role::Administers, administers()),
        (Role::Audits, audits()),
    ]
}

fn json() -> DefaultBodyLimit {
    DefaultBodyLimit::max(JSON_BYTES_MAX)
}

fn reads() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route(
            "/v1/status",
            get_with(status::status, says("How this node does: what it holds, whom it reaches, what a person must mend")),
        )
        .api_route("/v1/me", get_with(news::me, says("Who asks, and what that one may do and see")))
        .api_route("/v1/query", get_with(search::ask, says("What is known of a value, or what fits a question")))
        .api_route(
            "/v1/explain",
            get_with(search::explain, says("The whole story of a value or a record: who said what, what was decided and why")),
        )
        .api_route("/v1/export", get_with(export::export, says("What stands, as CSV, JSON, ECS, STIX, MISP or a list, streamed")))
        .api_route("/v1/match/keys", get_with(matching::keys, says("A hash of each value that counts, to look logs through by oneself")))
        .api_route("/v1/match", post_with(matching::ask, says("Which of these values are known")).layer(json()))
        .api_route("/v1/members", get_with(news::members, says("Every member: what it published, what of it we lack and why")))
        .api_route("/v1/agreements", get_with(agreements::agreements, says("Under what others may have what is ours, and until when")))
        .api_route("/v1/roster", get_with(roster::roster, says("Charter, cards and stamp in force, as they were signed")))
        .api_route("/v1/head", get_with(roster::head, says("The head at a place of a feed")))
        .api_route("/v1/quarantine", get_with(roster::quarantine, says("Feeds that are set aside, and why")))
        .api_route("/v1/proof", get_with(travel::proof, says("The proof that a feed's author signed two histories")))
        .api_route("/v1/verify", post_with(travel::verify, takes("What such a proof proves")).layer(json()))
        .api_route(
            "/v1/verify/bundle",
            post_with(proofs::verify, takes("What of a STIX bundle is proved by the signatures it carries"))
                .layer(DefaultBodyLimit::disable()),
        )
        .api_route("/v1/policy", get_with(policy::policy, says("The policies and lists in force")))
        .api_route(
            "/v1/policy/try",
            post_with(policy::attempt, says("What another policy would have decided")).layer(DefaultBodyLimit::max(4 * JSON_BYTES_MAX)),
        )
        .api_route("/v1/held", get_with(held::held, says("What waits for a person's decision")))
        .api_route("/v1/disputes", get_with(held::disputes, says("What others say is wrong")))
        .api_route("/v1/outlets", get_with(enforce::outlets, says("Each outlet: its mode, what it holds, how fresh that is")))
        .api_route("/v1/hits", get_with(enforce::hits, says("The lines of exports that hit a value")))
        .api_route(
            "/v1/events",
            get_with(news::events, says("What is accepted, held, withdrawn, refused and expires, as it happens: server-sent events")),
        )
        .api_route("/v1/news", get_with(news::news, says("What happened since a cursor, counted by member")))
        .api_route("/v1/sync", get_with(travel::sync, says("How complete this node is, member by member")))
        .api_route("/v1/follow", get_with(travel::follows, says("Which channels are followed")))
        .api_route("/v1/receipts", get_with(travel::receipts, says("How far a record of ours, or its withdrawal, has got")))
        .api_route("/v1/share", get_with(share::shares, says("What is passed on, and with whom")))
        .api_route("/v1/pull", get_with(pull::sources, says("Sources that are pulled, and how that went")))
        .api_route("/v1/documents", get_with(documents::documents, says("Documents that are known here")))
        .api_route("/v1/documents/content", get_with(documents::content, says("A document's content")))
        .api_route("/v1/questions", get_with(talk::questions, says("Questions of members, and their answers")))
        .api_route("/v1/subject", get_with(erase::subject, says("All that is held about one value, for whom it belongs to")))
        .api_route("/v1/retention", get_with(erase::retention, says("How long what is kept, and what is due")))
        .api_route(
            "/v1/tokens",
            get_with(tokens::tokens, says("Tokens that one may see"))
                .post_with(tokens::make, says("Make a token: at the node's own socket only"))
                .layer(json()),
        )
        .api_route("/v1/tokens/revoke", post_with(tokens::revoke, says("Take a token back")).layer(json()))
        .api_route(DESCRIPTION_PATH, get_with(description, says("This description")))
        .route("/metrics", axum::routing::get(metrics::metrics))
}

fn decides() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route("/v1/quarantine", post_with(roster::decide, says("Release or drop what is set aside of a feed")))
        .api_route("/v1/held", post_with(held::decide, says("Accept or refuse what is held")))
        .api_route("/v1/order", post_with(enforce::order, says("Unblock, force, stop or promote: what outlets do at once")))
        .api_route("/v1/follow", post_with(travel::follow, says("Follow a channel, or not any more")))
        .api_route("/v1/share", post_with(share::share, says("Pass records on, or not any more")))
        .api_route("/v1/documents/fetch", post_with(documents::fetch, says("Fetch a document's content")))
        .api_route("/v1/documents/drop", post_with(documents::drop_content, says("Remove a document's content here")))
        .api_route("/v1/policy/rejudge", post_with(policy::rejudge, says("Judge again by what is in force now")))
        .layer(json())
}

fn publishes() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route("/v1/withdraw", post_with(withdraw::withdraw_deed, says("Take records of ours back")).layer(json()))
        .api_route("/v1/renew", post_with(renew::renew_deed, says("Let records of ours count longer")).layer(json()))
        .api_route("/v1/ask", post_with(talk::ask, says("Ask the members of a channel")).layer(json()))
        .api_route("/v1/sighting", post_with(talk::sight, says("Say that a value was seen, was not, or is a false positive")).layer(json()))
        .api_route("/v1/pull", post_with(pull::pull, says("Pull a source now")).layer(json()))
        .api_route("/v1/documents", post_with(documents::publish, takes("Publish a document")).layer(DefaultBodyLimit::disable()))
        .api_route(
            "/v1/publish",
            post_with(publish::publish_deed, takes("Publish what a file says: a table, a list, STIX or MISP"))
                .layer(DefaultBodyLimit::disable()),
        )
}

fn administers() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route(
            "/v1/bundle",
            get_with(bundle::export, says("Everything a member may have, to be carried there"))
                .post_with(bundle::import_deed, takes("Take in what was carried here"))
                .layer(DefaultBodyLimit::disable()),
        )
        .api_route("/v1/ledger/verify", post_with(care::verify, says("Read everything again")).layer(json()))
        .api_route("/v1/ledger/backup", post_with(care::backup, says("Copy the journal, while everything goes on")).layer(json()))
        .api_route("/v1/ledger/compact", post_with(care::compact, says("Rewrite what is erased and still there")).layer(json()))
        .api_route("/v1/erase/preview", post_with(erase::preview, says("What an order to erase would erase")).layer(json()))
        .api_route("/v1/erase", post_with(erase::erase, says("Erase under an order")).layer(json()))
        .api_route("/v1/retention", post_with(erase::decide, says("Decide about what is due for review")).layer(json()))
        .api_route("/v1/retention/apply", post_with(erase::apply, says("Erase now what has come to its end")).layer(json()))
        .api_route("/v1/standby", post_with(standby::take, says("Take decisions of the first node over")).layer(json()))
        .api_route("/v1/notify/test", post_with(notify::attempt, says("Send a notification to see that it arrives")).layer(json()))
        .api_route("/v1/policy/reload", post_with(policy::reload, says("Read policies and lists anew")).layer(json()))
        .api_route(
            "/v1/document",
            post_with(roster::take_document, takes("Put a charter, stamp or card in force"))
                .layer(DefaultBodyLimit::max(roster::DOCUMENT_BYTES_MAX)),
        )
}

fn audits() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route("/v1/log", get_with(journal::log, says("What people did here, the newest first")))
        .api_route("/v1/access", get_with(access::access, says("Who was shown what, when, by what way and why")))
        .api_route("/v1/access/verify", get_with(access::verify, says("Whether that log is whole")))
        .api_route("/v1/standby", get_with(standby::stream, says("What people decided, for a second node")))
}
