//! Weir's objects by kind and name, wherever they come from.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use weir_crds::{
    GPUTier, InferencePlacementPolicy, InferencePriceBook, InferenceProvider, InferenceWorkload,
    ModelProfile,
};

/// Weir's objects by kind and name.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Workloads, in the order in which they were found.
    pub workloads: Vec<InferenceWorkload>,
    /// Policies.
    pub policies: BTreeMap<String, InferencePlacementPolicy>,
    /// Model profiles.
    pub models: BTreeMap<String, ModelProfile>,
    /// Providers.
    pub providers: BTreeMap<String, InferenceProvider>,
    /// Price books.
    pub price_books: BTreeMap<String, InferencePriceBook>,
    /// Tiers.
    pub tiers: BTreeMap<String, GPUTier>,
    /// ConfigMaps that price books may take their prices from.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// Pods that serve workloads; empty where they are not known.
    pub pods: Vec<Pod>,
}

/// Something that a workload refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// An InferencePlacementPolicy.
    Policy(String),
    /// A ModelProfile.
    Model(String),
    /// An InferenceProvider.
    Provider(String),
    /// An InferencePriceBook.
    PriceBook(String),
    /// A GPUTier.
    Tier(String),
}

impl Reference {
    /// The kind that is referred to.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Policy(_) => "InferencePlacementPolicy",
            Self::Model(_) => "ModelProfile",
            Self::Provider(_) => "InferenceProvider",
            Self::PriceBook(_) => "InferencePriceBook",
            Self::Tier(_) => "GPUTier",
        }
    }

    /// Name of the object that is referred to.
    pub fn name(&self) -> &str {
        match self {
            Self::Policy(name)
            | Self::Model(name)
            | Self::Provider(name)
            | Self::PriceBook(name)
            | Self::Tier(name) => name,
        }
    }
}

impl Objects {
    /// What the workload refers to and is not here. Price books are only known once their providers are.
    pub fn absent(&self, workload: &InferenceWorkload) -> Vec<Reference> {
        let spec = &workload.spec;
        let mut absent = Vec::new();
        let mut need = |present: bool, reference: Reference| {
            if !present && !absent.contains(&reference) {
                absent.push(reference);
            }
        };
        for local in spec
            .targets
            .iter()
            .filter_map(|target| target.local.as_ref())
        {
            let model = &local.model_ref.name;
            need(
                self.models.contains_key(model),
                Reference::Model(model.clone()),
            );
            for tier in &local.tiers {
                need(self.tiers.contains_key(tier), Reference::Tier(tier.clone()));
            }
        }
        for external in spec
            .targets
            .iter()
            .filter_map(|target| target.external.as_ref())
        {
            let name = &external.provider_ref.name;
            let provider = self.providers.get(name);
            need(provider.is_some(), Reference::Provider(name.clone()));
            let book = provider.and_then(|provider| provider.spec.price_book_ref.as_ref());
            if let Some(book) = book {
                let present = self.price_books.contains_key(&book.name);
                need(present, Reference::PriceBook(book.name.clone()));
            }
        }
        if let Some(policy) = &spec.placement.policy_ref {
            let present = self.policies.contains_key(&policy.name);
            need(present, Reference::Policy(policy.name.clone()));
        }
        absent
    }

    /// The workload of that name; of that namespace where it states one.
    pub fn workload(&self, name: &str, namespace: Option<&str>) -> Option<&InferenceWorkload> {
        self.workloads.iter().find(|workload| {
            let elsewhere = namespace
                .zip(workload.metadata.namespace.as_deref())
                .is_some_and(|(wanted, stated)| wanted != stated);
            workload.name_any() == name && !elsewhere
        })
    }
}
