//! What a method and a path ask for.

use crate::upstream::call::Operation;
use http::Method;
use weir_openai::{ApiError, ErrorCode};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint<'a> {
    /// To be passed on.
    Call(Operation),
    /// The list of models.
    Models,
    /// One model.
    Model(&'a str),
}

/// A request's path, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route<'a> {
    /// The UID in the path, where there is one.
    pub(crate) uid: Option<&'a str>,
    /// What is asked for.
    pub endpoint: Endpoint<'a>,
}

/// Takes a method and a path apart.
///
/// # Errors
/// 404 for a path that is not served, 405 for another method.
pub(crate) fn route<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, ApiError> {
    let (uid, rest) = match path.strip_prefix("/w/") {
        Some(rest) => rest
            .split_once('/')
            .map(|(uid, rest)| (Some(uid), rest))
            .ok_or_else(not_found)?,
        None => (None, path.strip_prefix('/').ok_or_else(not_found)?),
    };
    let endpoint = match rest {
        "v1/chat/completions" => Endpoint::Call(Operation::ChatCompletions),
        "v1/completions" => Endpoint::Call(Operation::Completions),
        "v1/embeddings" => Endpoint::Call(Operation::Embeddings),
        "v1/models" => Endpoint::Models,
        _ => match rest.strip_prefix("v1/models/") {
            Some(id) if !id.is_empty() => Endpoint::Model(id),
            _ => return Err(not_found()),
        },
    };
    let expected = if matches!(endpoint, Endpoint::Call(_)) {
        Method::POST
    } else {
        Method::GET
    };
    if *method != expected {
        return Err(ApiError::new(
            ErrorCode::MethodNotAllowed,
            format!("use {expected} here"),
        ));
    }
    Ok(Route { uid, endpoint })
}

/// The answer for what is not there, and for what is another's.
pub(crate) fn not_found() -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        "there is nothing at this path for this key",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/v1/chat/completions", None, Operation::ChatCompletions)]
    #[case("/w/u-1/v1/completions", Some("u-1"), Operation::Completions)]
    #[case("/v1/embeddings", None, Operation::Embeddings)]
    fn calls_are_posted(
        #[case] path: &str,
        #[case] uid: Option<&str>,
        #[case] operation: Operation,
    ) {
        assert_eq!(
            route(&Method::POST, path),
            Ok(Route {
                uid,
                endpoint: Endpoint::Call(operation)
            })
        );
        assert_eq!(
            route(&Method::GET, path).map_err(|error| error.code),
            Err(ErrorCode::MethodNotAllowed)
        );
    }

    #[test]
    fn models_are_got_and_may_have_slashes_in_their_names() {
        assert_eq!(
            route(&Method::GET, "/v1/models"),
            Ok(Route {
                uid: None,
                endpoint: Endpoint::Models
            })
        );
        assert_eq!(
            route(&Method::GET, "/w/u/v1/models/org/name"),
            Ok(Route {
                uid: Some("u"),
                endpoint: Endpoint::Model("org/name")
            })
        );
    }

    #[rstest]
    #[case("/")]
    #[case("")]
    #[case("/v1")]
    #[case("/v1/")]
    #[case("/v1/models/")]
    #[case("/v2/chat/completions")]
    #[case("/w/u")]
    #[case("/w/u/metrics")]
    #[case("/v1/chat/completions/")]
    #[case("/V1/chat/completions")]
    fn everything_else_is_not_there(#[case] path: &str) {
        assert_eq!(
            route(&Method::POST, path).map_err(|error| error.code),
            Err(ErrorCode::NotFound)
        );
    }
}
