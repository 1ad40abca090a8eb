//! The table of what may be asked: by which way, by whom, and what is said of it to programs.

use super::{
    ApiError, Local, access, admission::Class, agreements, bundle, care, clock, contract::Raw, documents, enforce, erase, export, held,
    journal, matching, metrics, news, notify, operators, policy, proofs, publish, pull, renew, roster, search, share, standby, status,
    talk, tokens, travel, withdraw,
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
    let of = |role: Role, class: Class| from_fn_with_state((local.clone(), role, class), operators::check);
    let routes = table().into_iter().fold(ApiRouter::new(), |all, (role, class, routes)| all.merge(routes.route_layer(of(role, class))));
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
    let of = |(role, _, routes): (Role, Class, ApiRouter<Local>)| routes.with_path_items(move |path| by(role, path));
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

/// Every route, with the role that it requires and its class.
fn table() -> [(Role, Class, ApiRouter<Local>); 17] {
    [
        (Role::Reads, Class::Review, overview()),
        (Role::Reads, Class::Query, questions()),
        (Role::Reads, Class::Stream, happenings()),
        (Role::Reads, Class::Bulk, downloads()),
        (Role::Reads, Class::Revoke, own_tokens()),
        (Role::Decides, Class::Revoke, orders()),
        (Role::Decides, Class::Review, decisions()),
        (Role::Decides, Class::Bulk, judgement()),
        (Role::Publishes, Class::Revoke, withdrawals()),
        (Role::Publishes, Class::Review, statements()),
        (Role::Publishes, Class::Bulk, files()),
        (Role::Administers, Class::Revoke, signed_documents()),
        (Role::Administers, Class::Review, erasures()),
        (Role::Administers, Class::Bulk, care_of_all()),
        (Role::Operates, Class::Query, machine()),
        (Role::Audits, Class::Query, audits()),
        (Role::Audits, Class::Stream, decided()),
    ]
}

fn json() -> DefaultBodyLimit {
    DefaultBodyLimit::max(JSON_BYTES_MAX)
}

/// Routes that a person needs to decide.
fn overview() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route("/v1/status", get_with(status::status, says("Node status: records, peers, alarms")))
        .api_route("/v1/me", get_with(news::me, says("The caller, its roles and its clearance")))
        .api_route("/v1/explain", get_with(search::explain, says("The full history of a value or record: sources, decisions, reasons")))
        .api_route(
            "/v1/members",
            get_with(news::members, says("Every member: its publications, and which of them are missing here and why")),
        )
        .api_route("/v1/quarantine", get_with(roster::quarantine, says("Quarantined feeds, with reasons")))
        .api_route("/v1/held", get_with(held::held, says("Records held for review")))
        .api_route("/v1/disputes", get_with(held::disputes, says("Disputed records")))
        .api_route("/v1/outlets", get_with(enforce::outlets, says("Each outlet: mode, contents, age of its export")))
        .api_route("/v1/hits", get_with(enforce::hits, says("Export lines that match a value")))
}

/// Lookups.
fn questions() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route("/v1/query", get_with(search::ask, says("Records about a value, or records that match a query")))
        .api_route("/v1/match", post_with(matching::ask, says("Which of these values are known")).layer(json()))
        .api_route("/v1/agreements", get_with(agreements::agreements, says("Sharing agreements and their terms")))
        .api_route("/v1/roster", get_with(roster::roster, says("Charter, cards and stamp in force, in signed form")))
        .api_route("/v1/head", get_with(roster::head, says("The head with a given sequence number")))
        .api_route("/v1/proof", get_with(travel::proof, says("The proof that an author signed two histories")))
        .api_route("/v1/verify", post_with(travel::verify, says("Verify such a proof")).layer(json()))
        .api_route("/v1/policy", get_with(policy::policy, says("Policies and lists in force")))
        .api_route("/v1/news", get_with(news::news, says("Changes since a cursor, counted by member")))
        .api_route("/v1/sync", get_with(travel::sync, says("Synchronisation status by member")))
        .api_route("/v1/follow", get_with(travel::follows, says("Followed channels")))
        .api_route("/v1/receipts", get_with(travel::receipts, says("Delivery status of a published record or its withdrawal")))
        .api_route("/v1/share", get_with(share::shares, says("Records shared onward, and their recipients")))
        .api_route("/v1/pull", get_with(pull::sources, says("Pulled sources, with the result of the last pull")))
        .api_route("/v1/documents", get_with(documents::documents, says("Known documents")))
        .api_route("/v1/questions", get_with(talk::questions, says("Members' questions, with answers")))
        .api_route("/v1/subject", get_with(erase::subject, says("Everything stored about a value, for a data subject request")))
        .api_route("/v1/retention", get_with(erase::retention, says("Retention rules, and records that are due")))
        .api_route(
            "/v1/tokens",
            get_with(tokens::tokens, says("The tokens that the caller may see"))
                .post_with(tokens::make, says("Create a token (at the node's Unix socket only)"))
                .layer(json()),
        )
        .api_route(DESCRIPTION_PATH, get_with(description, says("This description")))
}

/// The state of the machine, which tells of all records together.
fn machine() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route("/v1/clock", get_with(clock::clock, says("The time here, how sure it is, and what contradicts it")))
        .route("/metrics", axum::routing::get(metrics::metrics))
}

/// Event streams.
fn happenings() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route("/v1/events", get_with(news::events, says("Server-sent events: accepted, held, withdrawn, refused, expired")))
}

/// Exports, and work on the whole ledger.
fn downloads() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route(
            "/v1/export",
            get_with(export::export, says("Export current records as CSV, JSON, ECS, STIX, MISP or a list (streamed)")),
        )
        .api_route("/v1/match/keys", get_with(matching::keys, says("A hash of each current value, for matching logs locally")))
        .api_route(
            "/v1/verify/bundle",
            post_with(proofs::verify, says("Verify the signatures in a STIX bundle")).layer(DefaultBodyLimit::disable()),
        )
        .api_route(
            "/v1/policy/try",
            post_with(policy::attempt, says("Dry-run another policy over stored records")).layer(DefaultBodyLimit::max(4 * JSON_BYTES_MAX)),
        )
        .api_route("/v1/documents/content", get_with(documents::content, says("A document's content")))
}

/// Policy runs over stored records.
fn judgement() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route("/v1/policy/rejudge", post_with(policy::rejudge, says("Apply the policies in force to stored records")).layer(json()))
}

/// Revocation of tokens.
fn own_tokens() -> ApiRouter<Local> {
    ApiRouter::new().api_route("/v1/tokens/revoke", post_with(tokens::revoke, says("Revoke a token")).layer(json()))
}

/// Orders to outlets.
fn orders() -> ApiRouter<Local> {
    ApiRouter::new().api_route("/v1/order", post_with(enforce::order, says("Unblock, force, stop or promote at outlets"))).layer(json())
}

/// Other decisions of operators.
fn decisions() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route("/v1/quarantine", post_with(roster::decide, says("Release or drop a quarantined feed")))
        .api_route("/v1/clock", post_with(clock::confirm, says("Confirm that the clock of this machine is right")))
        .api_route("/v1/held", post_with(held::decide, says("Accept or reject held records")))
        .api_route("/v1/follow", post_with(travel::follow, says("Follow or unfollow a channel")))
        .api_route("/v1/share", post_with(share::share, says("Start or stop sharing records onward")))
        .api_route("/v1/documents/fetch", post_with(documents::fetch, says("Fetch a document's content")))
        .api_route("/v1/documents/drop", post_with(documents::drop_content, says("Remove a document's content from this node")))
        .layer(json())
}

/// Withdrawals.
fn withdrawals() -> ApiRouter<Local> {
    ApiRouter::new().api_route("/v1/withdraw", post_with(withdraw::withdraw_deed, says("Withdraw published records")).layer(json()))
}

/// Publications of one record.
fn statements() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route("/v1/renew", post_with(renew::renew_deed, says("Extend the validity of published records")).layer(json()))
        .api_route("/v1/ask", post_with(talk::ask, says("Ask the members of a channel")).layer(json()))
        .api_route("/v1/sighting", post_with(talk::sight, says("Publish a sighting: seen, not seen, false positive")).layer(json()))
}

/// Publications of files.
fn files() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route("/v1/documents", post_with(documents::publish, says("Publish a document")).layer(DefaultBodyLimit::disable()))
        .api_route(
            "/v1/publish",
            post_with(publish::publish_deed, says("Publish the indicators in a file: CSV, list, STIX or MISP"))
                .layer(DefaultBodyLimit::disable()),
        )
        .api_route("/v1/pull", post_with(pull::pull, says("Pull a source now")).layer(json()))
}

/// Signed documents: a new card revokes a stolen key.
fn signed_documents() -> ApiRouter<Local> {
    ApiRouter::new().api_route("/v1/heads", get_with(roster::heads, says("The last heads of our own feeds, for cards"))).api_route(
        "/v1/document",
        post_with(roster::take_document, says("Apply a charter, stamp or card")).layer(DefaultBodyLimit::max(roster::DOCUMENT_BYTES_MAX)),
    )
}

/// Erasure, and a reload of policies.
fn erasures() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route("/v1/erase/preview", post_with(erase::preview, says("Preview an erasure")).layer(json()))
        .api_route("/v1/erase", post_with(erase::erase, says("Erase records under a legal order")).layer(json()))
        .api_route("/v1/retention", post_with(erase::decide, says("Decide on records that are due for review")).layer(json()))
        .api_route("/v1/policy/reload", post_with(policy::reload, says("Reload policies and lists")).layer(json()))
}

/// Maintenance of the ledger.
fn care_of_all() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route(
            "/v1/bundle",
            get_with(bundle::export, says("Export a bundle for a member"))
                .post_with(bundle::import_deed, says("Import a bundle"))
                .layer(DefaultBodyLimit::disable()),
        )
        .api_route("/v1/ledger/verify", post_with(care::verify, says("Verify the whole ledger")).layer(json()))
        .api_route("/v1/ledger/backup", post_with(care::backup, says("Back up the journal")).layer(json()))
        .api_route("/v1/ledger/compact", post_with(care::compact, says("Compact erased records out of the journal")).layer(json()))
        .api_route("/v1/retention/apply", post_with(erase::apply, says("Apply retention now")).layer(json()))
        .api_route("/v1/standby", post_with(standby::take, says("Import decisions of the primary node")).layer(json()))
        .api_route("/v1/notify/test", post_with(notify::attempt, says("Send a test notification")).layer(json()))
}

/// Audit logs.
fn audits() -> ApiRouter<Local> {
    ApiRouter::new()
        .api_route("/v1/log", get_with(journal::log, says("Operators' actions, newest first")))
        .api_route("/v1/access", get_with(access::access, says("Access log: who saw which record, when, how and why")))
        .api_route("/v1/access/verify", get_with(access::verify, says("Verify the access log")))
}

/// Decisions, for a standby node.
fn decided() -> ApiRouter<Local> {
    ApiRouter::new().api_route("/v1/standby", get_with(standby::stream, says("Operators' decisions, for a standby node")))
}
