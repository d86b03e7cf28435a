//! A store behind an `Arc` or a `Box` is a store, and so is a type that contains one.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::admission::{self, AdmissionStore, Admit};
use super::audit::AuditSink;
use super::budget::{self, BudgetStore, Crossing, Reservation, Reserve};
use super::content::ContentSink;
use super::key::{KeyRegistry, KeyStore, Put};
use super::rate_limit::{self, Acquire, Permit, RateLimitStore, Used};
use super::{At, Session, StoreError};
use crate::domain::audit::AuditRecord;
use crate::domain::budget::Budget;
use crate::domain::content::Content;
use crate::domain::event::Event;
use crate::domain::key::{KeyDigest, KeyRecord};
use crate::domain::limit::Limit;
use crate::domain::money::Money;
use crate::store::event::EventSink;

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: KeyStore + ?Sized> KeyStore for $pointer<T> {
            async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
                (**self).find(digest).await
            }
        }

        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: KeyRegistry + ?Sized> KeyRegistry for $pointer<T> {
            async fn named(&self, name: &str) -> Result<Option<Arc<KeyRecord>>, StoreError> {
                (**self).named(name).await
            }

            async fn with_id(&self, id: Uuid) -> Result<Option<Arc<KeyRecord>>, StoreError> {
                (**self).with_id(id).await
            }

            async fn is_empty(&self) -> Result<bool, StoreError> {
                (**self).is_empty().await
            }

            async fn list(&self, after: Option<&str>, most: usize) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
                (**self).list(after, most).await
            }

            async fn put(&self, record: &KeyRecord) -> Result<Put, StoreError> {
                (**self).put(record).await
            }
        }

        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: BudgetStore + ?Sized> BudgetStore for $pointer<T> {
            async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
                (**self).reserve(ask, at).await
            }

            async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
                (**self).extend(ask, at).await
            }

            async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
                (**self).settle(reservation, actual, at).await
            }

            fn memory(&self) -> budget::Memory {
                (**self).memory()
            }

            async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
                (**self).heartbeat(session, at).await
            }

            async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<budget::Standing>, StoreError> {
                (**self).standing(budgets, at).await
            }
        }

        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: AdmissionStore + ?Sized> AdmissionStore for $pointer<T> {
            async fn admit(&self, ask: &Admit<'_>, at: At) -> Result<admission::Verdict, StoreError> {
                (**self).admit(ask, at).await
            }
        }

        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: RateLimitStore + ?Sized> RateLimitStore for $pointer<T> {
            async fn acquire(&self, ask: &Acquire<'_>, at: At) -> Result<rate_limit::Verdict, StoreError> {
                (**self).acquire(ask, at).await
            }

            async fn settle(&self, permit: &Permit, used: Used, at: At) -> Result<(), StoreError> {
                (**self).settle(permit, used, at).await
            }

            async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
                (**self).heartbeat(session, at).await
            }

            async fn standing(&self, limits: &[Limit], at: At) -> Result<Vec<rate_limit::Standing>, StoreError> {
                (**self).standing(limits, at).await
            }
        }

        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: AuditSink + ?Sized> AuditSink for $pointer<T> {
            async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
                (**self).write(records).await
            }

            fn is_read(&self) -> bool {
                (**self).is_read()
            }
        }

        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: ContentSink + ?Sized> ContentSink for $pointer<T> {
            async fn write(&self, contents: &[Content]) -> Result<(), StoreError> {
                (**self).write(contents).await
            }

            async fn delete_before(&self, end: Timestamp) -> Result<u64, StoreError> {
                (**self).delete_before(end).await
            }
        }

        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: EventSink + ?Sized> EventSink for $pointer<T> {
            async fn tell(&self, event: &Event) -> Result<(), StoreError> {
                (**self).tell(event).await
            }
        }
    )*};
}

forward!(Arc, Box);

/// Implements the traits for limits and budgets by delegation to the fields `limits` and `budgets`.
#[cfg(any(feature = "memory", feature = "sqlite"))]
macro_rules! by_parts {
    ($whole:ty) => {
        #[async_trait::async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl $crate::store::budget::BudgetStore for $whole {
            async fn reserve(
                &self,
                ask: &$crate::store::budget::Reserve<'_>,
                at: $crate::store::At,
            ) -> Result<$crate::store::budget::Verdict, $crate::store::StoreError> {
                self.budgets.reserve(ask, at).await
            }

            async fn extend(
                &self,
                ask: &$crate::store::budget::Reserve<'_>,
                at: $crate::store::At,
            ) -> Result<$crate::store::budget::Verdict, $crate::store::StoreError> {
                self.budgets.extend(ask, at).await
            }

            async fn settle(
                &self,
                reservation: &$crate::store::budget::Reservation,
                actual: $crate::domain::money::Money,
                at: $crate::store::At,
            ) -> Result<Vec<$crate::store::budget::Crossing>, $crate::store::StoreError> {
                self.budgets.settle(reservation, actual, at).await
            }

            fn memory(&self) -> $crate::store::budget::Memory {
                self.budgets.memory()
            }

            async fn heartbeat(
                &self,
                session: $crate::store::Session,
                at: $crate::store::At,
            ) -> Result<(), $crate::store::StoreError> {
                self.budgets.heartbeat(session, at).await
            }

            async fn standing(
                &self,
                budgets: &[$crate::domain::budget::Budget],
                at: $crate::store::At,
            ) -> Result<Vec<$crate::store::budget::Standing>, $crate::store::StoreError> {
                self.budgets.standing(budgets, at).await
            }
        }

        #[async_trait::async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl $crate::store::rate_limit::RateLimitStore for $whole {
            async fn acquire(
                &self,
                ask: &$crate::store::rate_limit::Acquire<'_>,
                at: $crate::store::At,
            ) -> Result<$crate::store::rate_limit::Verdict, $crate::store::StoreError> {
                self.limits.acquire(ask, at).await
            }

            async fn settle(
                &self,
                permit: &$crate::store::rate_limit::Permit,
                used: $crate::store::rate_limit::Used,
                at: $crate::store::At,
            ) -> Result<(), $crate::store::StoreError> {
                self.limits.settle(permit, used, at).await
            }

            async fn heartbeat(
                &self,
                session: $crate::store::Session,
                at: $crate::store::At,
            ) -> Result<(), $crate::store::StoreError> {
                self.limits.heartbeat(session, at).await
            }

            async fn standing(
                &self,
                limits: &[$crate::domain::limit::Limit],
                at: $crate::store::At,
            ) -> Result<Vec<$crate::store::rate_limit::Standing>, $crate::store::StoreError> {
                self.limits.standing(limits, at).await
            }
        }
    };
}
#[cfg(any(feature = "memory", feature = "sqlite"))]
pub(super) use by_parts;
