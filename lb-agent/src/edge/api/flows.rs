//! `GET /v1/flows` and `GET /v1/flows/count`: looks at the flow table on a thread of its own. Neither the single writer nor
//! anybody's packets wait for it.

use std::ops::ControlFlow;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};

use super::server::{Api, ApiError};
use super::{DEFAULT_FLOW_LIMIT, MAX_FLOW_LIMIT};
use crate::pure::command::{Refusal, Reply};
use crate::pure::flows::{Counts, FlowFilter, FlowView};

type Asked = Result<Query<FlowFilter>, QueryRejection>;

pub(super) async fn list(State(api): State<Api>, filter: Asked) -> Result<Json<Reply>, ApiError> {
    let Query(filter) = filter?;
    let limit = filter.limit.unwrap_or(DEFAULT_FLOW_LIMIT);
    if limit > MAX_FLOW_LIMIT {
        return Err(ApiError::invalid(format!("limit is {limit}, wanted at most {MAX_FLOW_LIMIT}")));
    }
    look(api, move |api| {
        let snapshot = api.snapshot();
        let view = FlowView::new(&snapshot, &filter)?;
        let mut rows = Vec::new();
        if limit > 0 {
            let scanned = api.flows.scan(true, &mut |flow| {
                rows.extend(view.row(flow));
                if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            scanned.map_err(|e| Refusal::Failed(e.to_string()))?;
        }
        Ok(Reply::Flows(rows))
    })
    .await
}

pub(super) async fn count(State(api): State<Api>, filter: Asked) -> Result<Json<Reply>, ApiError> {
    let Query(filter) = filter?;
    if filter.limit.is_some() {
        return Err(ApiError::invalid("limit is for /v1/flows: counts have a row for each backend and state"));
    }
    look(api, move |api| {
        let snapshot = api.snapshot();
        let view = FlowView::new(&snapshot, &filter)?;
        let mut counts = Counts::default();
        let scanned = api.flows.scan(view.asks_for_client(), &mut |flow| {
            counts.add(&view, flow);
            ControlFlow::Continue(())
        });
        scanned.map_err(|e| Refusal::Failed(e.to_string()))?;
        Ok(Reply::FlowCounts(counts.rows(&view)))
    })
    .await
}

async fn look(
    api: Api,
    what: impl FnOnce(&Api) -> Result<Reply, Refusal> + Send + 'static,
) -> Result<Json<Reply>, ApiError> {
    let looked = tokio::task::spawn_blocking(move || what(&api)).await;
    let reply = looked.map_err(|e| Refusal::Failed(format!("the look at the flow table broke off: {e}")))?;
    Ok(Json(reply?))
}
