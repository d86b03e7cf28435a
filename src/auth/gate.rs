use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};

use crate::call::{Call, unavailable};
use crate::domain::key::{KeyDigest, KeyRecord, Pepper};
use crate::domain::outcome::Decision;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::gate::Gate;
use crate::store::admission::PresentedKey;
use crate::store::in_time;
use crate::store::key::KeyStore;

/// The policy of a [`KeyAuthLayer`](super::KeyAuthLayer).
pub struct KeyAuthGate<K: ?Sized> {
    pepper: Pepper,
    /// The latest time seen, in microseconds since 1970: a key that had expired stays expired when the clock is set
    /// back a little.
    latest: AtomicI64,
    /// Last, so that the gate can be unsized over its store.
    keys: K,
}

impl<K: KeyStore> KeyAuthGate<K> {
    pub(crate) fn new(keys: K, pepper: Pepper) -> Self {
        KeyAuthGate { pepper, latest: AtomicI64::new(i64::MIN), keys }
    }
}

impl<K: KeyStore + ?Sized> KeyAuthGate<K> {
    /// Like [`Gate::admit`], without a box.
    pub(crate) async fn pass(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        if call.principal().is_none() {
            if call.route().is_some() {
                return Err(Rejection::misconfigured(
                    "`RouteLayer` is outside of `KeyAuthLayer` and routed without the key's aliases: put `RouteLayer` inside",
                ));
            }
            let record = self.authenticate(&parts.headers, call).await?;
            call.set_principal(record.principal.clone());
            parts.extensions.insert(record.principal.clone());
            call.set_presented_key(PresentedKey { id: record.id, digest: record.digest });
            for name in &CREDENTIALS {
                parts.headers.remove(name);
            }
            call.note(Decision::allow("auth", "the key is valid"));
        }
        call.check_spelling()?;
        // For a stack that reads the body further out.
        call.check_model()
    }

    async fn authenticate(&self, headers: &HeaderMap, call: &Call) -> Result<Arc<KeyRecord>, Rejection> {
        let rejection = match self.find(headers).await {
            Ok(Some(record)) => match why_not(&record, self.now(call)) {
                None => return Ok(record),
                Some(why) => {
                    let (key, name) = (record.id, &record.principal.name);
                    tracing::info!(call = %call.id(), %key, %name, "refused: {why}");
                    // The owner goes into the record only: the caller has not proven that the key is theirs.
                    call.note(Decision::refuse("auth", format!("{why}: {key}, {name}")));
                    return Err(refused(why));
                }
            },
            Ok(None) => refused("this API key is not valid"),
            Err(rejection) => rejection,
        };
        call.note(Decision::refuse("auth", rejection.shared_message()));
        Err(rejection)
    }

    /// The current time. It never goes back, except by more than [`SET_BACK`].
    fn now(&self, call: &Call) -> Timestamp {
        let now = call.now();
        let latest = self.latest.fetch_max(now.as_microsecond(), Ordering::Relaxed);
        // The first call has no earlier time.
        let Ok(before) = Timestamp::from_microsecond(latest) else { return now };
        if before.duration_since(now) > SET_BACK {
            // A concurrent call that sees a newer time does the same.
            let _ = self.latest.compare_exchange(latest, now.as_microsecond(), Ordering::Relaxed, Ordering::Relaxed);
            return now;
        }
        before.max(now)
    }

    /// Finds the record of the presented key, under any of the peppers.
    async fn find(&self, headers: &HeaderMap) -> Result<Option<Arc<KeyRecord>>, Rejection> {
        let (presented, mut digest) = self.presented(headers)?;
        let (mut pepper, mut failed) = (&self.pepper, None);
        loop {
            match in_time(self.keys.find(&digest)).await {
                // If a store returns another key's record, the caller must not become that key's owner.
                Ok(Some(record)) if record.digest != digest => {
                    return Err(Rejection::misconfigured(
                        "the `KeyStore` returned a record with a different digest than the one asked for",
                    ));
                }
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) => {}
                // A cache may still know the key under another pepper.
                Err(error) => failed = Some(unavailable(&error)),
            }
            let before = pepper.before().and_then(|before| Some((before, before.digest(presented)?)));
            match (before, failed.take()) {
                (Some(before), error) => ((pepper, digest), failed) = (before, error),
                (None, Some(error)) => return Err(error),
                (None, None) => return Ok(None),
            }
        }
    }

    /// The first header value that has the form of our keys, and its digest.
    fn presented<'a>(&self, headers: &'a HeaderMap) -> Result<(&'a [u8], KeyDigest), Rejection> {
        let mut any = false;
        for name in &CREDENTIALS {
            for value in headers.get_all(name) {
                any = true;
                let value = value.as_bytes();
                let key = if *name == header::AUTHORIZATION { bearer(value) } else { Some(value) };
                if let Some(found) = key.and_then(|key| Some((key, self.pepper.digest(key)?))) {
                    return Ok(found);
                }
            }
        }
        Err(refused(match any {
            true => "this API key is not valid",
            false => "no API key: send it as `Authorization: Bearer` or as `x-api-key`",
        }))
    }
}

#[async_trait]
impl<K: KeyStore> Gate for KeyAuthGate<K> {
    async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        self.pass(parts, call).await
    }
}

/// Why a known key is not accepted.
fn why_not(record: &KeyRecord, now: Timestamp) -> Option<&'static str> {
    match record {
        KeyRecord { disabled: true, .. } => Some("this API key is disabled"),
        KeyRecord { expires_at: Some(at), .. } if *at <= now => Some("this API key has expired"),
        _ => None,
    }
}

/// How far the clock may be set back without reviving a key that had expired. If it goes back further, the earlier time
/// was wrong, and must not keep keys expired until the gateway ends.
const SET_BACK: SignedDuration = SignedDuration::from_hours(1);

/// The headers in which clients send their key: both SDK families, Azure's, Google's.
const CREDENTIALS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// The key of a bearer credential: the scheme in any case, then one or more spaces (RFC 9110 section 11.4).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| rest.trim_ascii())
}

fn refused(message: &'static str) -> Rejection {
    Rejection::new(RejectionKind::Unauthenticated, message)
}

impl<K: ?Sized> fmt::Debug for KeyAuthGate<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyAuthGate").finish_non_exhaustive()
    }
}
