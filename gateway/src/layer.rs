//! Puts `identity` in front of every call: no path reaches a handler without a principal. It decides nothing.

use crate::identity::Identity;
use crate::status::status;
use crate::tls::PeerInfo;
use cortex_model::{Code, Fault};
use http::{Request, Response, StatusCode};
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::body::Body;
use tower::{Layer, Service};

/// Wraps a service so that it only sees authorised requests.
#[derive(Clone)]
pub(crate) struct AuthLayer(pub Arc<Identity>);

/// See [`AuthLayer`].
#[derive(Clone)]
pub(crate) struct Auth<S> {
    inner: S,
    identity: Arc<Identity>,
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;
    fn layer(&self, inner: S) -> Auth<S> {
        Auth { inner, identity: self.0.clone() }
    }
}

impl<S, B> Service<Request<B>> for Auth<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = futures::future::Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        use futures::future::Either;
        let peer =
            request.extensions().get::<PeerInfo>().cloned().unwrap_or_else(PeerInfo::unknown);
        match self.identity.authorize(request.uri().path(), request.headers(), &peer) {
            Ok(principal) => {
                request.extensions_mut().insert(principal);
                Either::Left(self.inner.call(request))
            }
            Err(fault) => Either::Right(ready(Ok(refusal(&fault, is_grpc(&request))))),
        }
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    kind.is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

/// A refusal in the caller's own protocol: gRPC says it in trailers, plain HTTP in its status.
fn refusal(fault: &Fault, grpc: bool) -> Response<Body> {
    if grpc {
        return status(fault).into_http();
    }
    let text = axum::body::Body::from(format!("{fault}\n"));
    let mut response = Response::new(Body::new(text));
    *response.status_mut() = if fault.code == Code::Unauthenticated {
        StatusCode::UNAUTHORIZED
    } else {
        StatusCode::FORBIDDEN
    };
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_speaks_the_protocol_of_the_caller() {
        let fault = Fault::new(Code::Unauthenticated, "no token");
        assert_eq!(refusal(&fault, false).status(), StatusCode::UNAUTHORIZED);
        let grpc = refusal(&fault, true);
        assert_eq!(grpc.status(), StatusCode::OK);
        assert_eq!(grpc.headers().get("grpc-status").unwrap(), "16");
        assert!(grpc.headers().contains_key(cortex_model::contract::ERROR_METADATA));
    }
}
