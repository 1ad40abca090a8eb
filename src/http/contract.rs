//! What programs are told of this interface: what a request takes and what its answer looks like, from the handlers' own types.
//!
//! ```text
//! Query<T>, Json<T>, Upload (`upload`) -OperationInput->  \
//!                                               } routes::table -aide-> OpenAPI 3.1, at /v1/openapi.json
//! Json<T>, Acted<T>, Lines<T>, Raw, ApiError -->/
//! ```
//!
//! A handler that answers in a form of its own is not let into the table: it has no [`OperationOutput`].

use super::{ApiError, Deed, Local, NoDeed, admission::Threads};
use aide::{
    OperationInput, OperationOutput,
    generate::GenContext,
    openapi::{MediaType, Operation, Response as Described, SchemaObject},
};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts},
    http::{
        HeaderValue, Request,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use schemars::{JsonSchema, json_schema};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{marker::PhantomData, time::Duration};
use tokio::sync::mpsc::{Receiver, Sender};

/// Longest body that is read whole; each route has its own limit below it.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Such a body must be complete within this.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const JSON: &str = "application/json";
const JSON_LINES: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";
pub(super) const BYTES: &str = "application/octet-stream";

/// A value in the form of JSON, as a request's body or an answer. A body that does not come in time, or cannot be read, is an
/// [`ApiError`] like any other.
pub(super) struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Local> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, local: &Local) -> Result<Self, ApiError> {
        Ok(Self(in_time::<axum::Json<T>>(request, local).await?.0))
    }
}

/// A short body as it is.
pub(super) struct Whole(pub Bytes);

impl FromRequest<Local> for Whole {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, local: &Local) -> Result<Self, ApiError> {
        in_time::<Bytes>(request, local).await.map(Self)
    }
}

impl OperationInput for Whole {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        super::upload::Upload::operation_input(context, operation);
    }
}

/// A body that is read whole, if it comes in time and there is memory for it.
async fn in_time<T: FromRequest<Local, Rejection: Into<ApiError>>>(request: Request<Body>, local: &Local) -> Result<T, ApiError> {
    // Memory for what it says it sends; for the longest where it does not say.
    let length = request.headers().get(CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse::<usize>().ok());
    if let Some(ticket) = Threads::here().ticket() {
        ticket.take_memory(length.unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX))?;
    }
    match tokio::time::timeout(BODY_TIMEOUT, T::from_request(request, local)).await {
        Ok(read) => read.map_err(Into::into),
        Err(_late) => Err(ApiError::late("the body was not complete within ten seconds")),
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: JsonSchema> OperationInput for Json<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        axum::Json::<T>::operation_input(context, operation);
    }
}

impl<T: JsonSchema> OperationOutput for Json<T> {
    type Inner = T;

    fn operation_response(context: &mut GenContext, operation: &mut Operation) -> Option<Described> {
        axum::Json::<T>::operation_response(context, operation)
    }

    fn inferred_responses(context: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, Described)> {
        succeeds::<Self>(context, operation)
    }
}

/// The parameters behind a `?`.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub(super) struct Query<T>(pub T);

impl<T: JsonSchema> OperationInput for Query<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        axum::extract::Query::<T>::operation_input(context, operation);
    }
}

/// The reply to a request that may change something, and the line for the journal if it did.
pub(super) struct Acted<T> {
    deed: Option<String>,
    reply: T,
}

impl<T> Acted<T> {
    pub fn deed(deed: impl Into<String>, reply: T) -> Self {
        Self { deed: Some(deed.into()), reply }
    }

    /// Nothing was changed.
    pub fn nothing(reply: T) -> Self {
        Self { deed: None, reply }
    }
}

impl<T: Serialize> IntoResponse for Acted<T> {
    fn into_response(self) -> Response {
        match self.deed {
            Some(deed) => (Extension(Deed(deed)), Json(self.reply)).into_response(),
            None => (Extension(NoDeed), Json(self.reply)).into_response(),
        }
    }
}

impl<T: JsonSchema> OperationOutput for Acted<T> {
    type Inner = T;

    fn operation_response(context: &mut GenContext, operation: &mut Operation) -> Option<Described> {
        Json::<T>::operation_response(context, operation)
    }

    fn inferred_responses(context: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, Described)> {
        succeeds::<Self>(context, operation)
    }
}

/// An answer that is a line of JSON each, while it is made.
pub(super) struct Lines<T>(Body, PhantomData<T>);

impl<T> Lines<T> {
    pub fn of(body: Body) -> Self {
        Self(body, PhantomData)
    }
}

impl<T> IntoResponse for Lines<T> {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, JSON_LINES)], self.0).into_response()
    }
}

impl<T: JsonSchema> OperationOutput for Lines<T> {
    type Inner = T;

    fn operation_response(context: &mut GenContext, _: &mut Operation) -> Option<Described> {
        let schema = context.schema.subschema_for::<T>();
        Some(described("A line of JSON for each, as it comes.", JSON_LINES, schema))
    }

    fn inferred_responses(context: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, Described)> {
        succeeds::<Self>(context, operation)
    }
}

/// Server-sent events; the data of each is a `T`.
pub(super) struct Events<T>(Response, PhantomData<T>);

impl<T> Events<T> {
    pub fn of(events: impl IntoResponse) -> Self {
        Self(events.into_response(), PhantomData)
    }
}

impl<T> IntoResponse for Events<T> {
    fn into_response(self) -> Response {
        self.0
    }
}

impl<T: JsonSchema> OperationOutput for Events<T> {
    type Inner = T;

    fn operation_response(context: &mut GenContext, _: &mut Operation) -> Option<Described> {
        let schema = context.schema.subschema_for::<T>();
        Some(described("Server-sent events; this is the data of each, and its `id` the cursor to go on from.", EVENTS, schema))
    }

    fn inferred_responses(context: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, Described)> {
        succeeds::<Self>(context, operation)
    }
}

/// An answer in a form of its own: a file, a bundle, a table for tools.
pub(super) struct Raw<B>(pub B);

/// Where the pieces of a body go while it is made; an error breaks it off.
pub(super) type Filled = Sender<std::io::Result<Bytes>>;

/// A body of the pieces that come through a channel.
pub(super) fn pieces(mut waiting: Receiver<std::io::Result<Bytes>>) -> Body {
    Body::from_stream(futures::stream::poll_fn(move |context| waiting.poll_recv(context)))
}

/// Fills such a body on a thread of the request's class, as soon as there is one. What fails breaks the body off.
pub(super) fn streamed(filled: Filled, fill: impl FnOnce(&Filled) -> Result<(), ApiError> + Send + 'static) {
    let (failed, threads) = (filled.clone(), Threads::here());
    let work = move || {
        if let Err(error) = fill(&filled) {
            tracing::error!(%error, "an answer ended early");
            let _reader_gone = filled.blocking_send(Err(std::io::Error::other(error.text)));
        }
    };
    threads.spawn(work, move |error| drop(failed.try_send(Err(std::io::Error::other(error.text)))));
}

impl<B: IntoResponse> IntoResponse for Raw<B> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        response.headers_mut().entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(BYTES));
        response
    }
}

impl<B> OperationOutput for Raw<B> {
    type Inner = Vec<u8>;

    fn operation_response(_: &mut GenContext, _: &mut Operation) -> Option<Described> {
        Some(described("The bytes themselves.", BYTES, json_schema!({})))
    }

    fn inferred_responses(context: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, Described)> {
        succeeds::<Self>(context, operation)
    }
}

/// What is said instead of an answer.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Error")]
pub struct Refusal {
    /// What is wrong and what to do about it, for a person.
    pub error: String,
}

impl OperationOutput for ApiError {
    type Inner = Refusal;

    fn operation_response(context: &mut GenContext, _: &mut Operation) -> Option<Described> {
        let schema = context.schema.subschema_for::<Refusal>();
        Some(described("What is wrong, and what to do about it.", JSON, schema))
    }

    fn inferred_responses(context: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, Described)> {
        Self::operation_response(context, operation).map(|response| (None, response)).into_iter().collect()
    }
}

fn succeeds<T: OperationOutput>(context: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, Described)> {
    T::operation_response(context, operation).map(|response| (Some(200), response)).into_iter().collect()
}

fn described(text: &str, form: &str, schema: schemars::Schema) -> Described {
    Described { description: text.to_owned(), content: [media(form, schema)].into_iter().collect(), ..Described::default() }
}

pub(super) fn media(form: &str, json_schema: schemars::Schema) -> (String, MediaType) {
    let schema = SchemaObject { json_schema, external_docs: None, example: None };
    (form.to_owned(), MediaType { schema: Some(schema), ..MediaType::default() })
}

/// Says why a request could not be read, in the same form as every other refusal.
macro_rules! refusals {
    ($($rejection:ty),*) => {$(
        impl From<$rejection> for ApiError {
            fn from(rejection: $rejection) -> Self {
                Self { status: rejection.status(), text: rejection.body_text() }
            }
        }
    )*};
}

refusals!(axum::extract::rejection::BytesRejection, axum::extract::rejection::JsonRejection, axum::extract::rejection::QueryRejection);
