//! Puts `identity` in front of every call: no path reaches a handler without a principal. It decides nothing.

use crate::identity::Identity;
use crate::status::status;
use http::{Request, Response};
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
        let shown = request.headers().get(http::header::AUTHORIZATION).map(|v| v.as_bytes());
        match self.identity.authorize(request.uri().path(), shown) {
            Ok(principal) => {
                request.extensions_mut().insert(principal);
                Either::Left(self.inner.call(request))
            }
            Err(fault) => Either::Right(ready(Ok(status(&fault).into_http()))),
        }
    }
}
