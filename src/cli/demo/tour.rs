//! The tour itself: a few real requests, and a line for each that says what it cost and why.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use http::Response;
use tokio::time::Instant;

use super::super::http::Client;
use crate::{downstream::BindAddress, sandbox::Handle};

/// How many ask for the same call at once.
const CROWD: usize = 100;

/// How often a call that is kept is read again.
const AGAIN: usize = 1_000;

/// One stop of the tour.
struct Stop<'a> {
    what: &'a str,
    callers: usize,
    answers: Vec<Response<Bytes>>,
    took: Duration,
    cost: u64,
}

/// What is walked with.
struct Guide<'a> {
    gateway: BindAddress,
    vendor: &'a Handle,
    lookups: u64,
    began_at: u64,
}

/// Walks through, and prints as it goes.
pub(super) async fn walk(gateway: SocketAddr, vendor: &Handle) -> io::Result<()> {
    let mut settled = vendor.settled_ids();
    let take =
        |ids: &mut Vec<String>| ids.pop().ok_or_else(|| io::Error::other("the sandbox has too few calls"));
    let (known, cold) = (take(&mut settled)?, take(&mut settled)?);
    let ongoing = vendor.start_call();
    let mut guide =
        Guide { gateway: BindAddress::Tcp(gateway), vendor, lookups: 0, began_at: vendor.requests() };

    let mut out = io::stdout().lock();
    writeln!(
        out,
        "callgate demo: a gateway on http://{gateway} before a simulated vendor that allows 60 requests a minute"
    )?;
    writeln!(
        out,
        "and takes 120 ms for each. The vendor's key stays in the gateway: no request below carries one.\n"
    )?;
    writeln!(out, "{:<48} {:>7} {:>7} {:>10}  cache-status", "what is asked", "callers", "vendor", "took")?;
    drop(out);

    let path = |id: &str| format!("/v2/api/call-history/{id}");
    let first = guide.one("a call that is over, first asked: miss", &path(&known), &[]).await?;
    let etag =
        first.answers.first().and_then(|a| a.headers().get("etag")?.to_str().ok()).unwrap_or("").to_owned();
    first.print()?;
    guide.one("the same again: hit", &path(&known), &[]).await?.print()?;
    guide.one("by the gateway's own name: hit", &format!("/calls/{known}"), &[]).await?.print()?;
    guide
        .one("by a caller that has it: 304, no body", &path(&known), &[("if-none-match", &etag)])
        .await?
        .print()?;
    guide.again("a thousand times more", &path(&known)).await?.print()?;
    guide.one("a call under way: ongoing, bypass, never kept", &path(&ongoing), &[]).await?.print()?;
    guide.one("the same again: asked anew", &path(&ongoing), &[]).await?.print()?;
    guide.crowd("100 callers at once, a call nobody had asked for", &path(&cold)).await?.print()?;
    guide.crowd("100 callers at once, the call under way", &path(&ongoing)).await?.print()?;
    guide
        .one("a call that does not exist: 404, kept for 5 s", &path("0123456789abcdef01234567"), &[])
        .await?
        .print()?;
    guide.one("the same again", &path("0123456789abcdef01234567"), &[]).await?.print()?;
    guide.one("a list, never kept", "/v2/api/call-history?status=failed&limit=5", &[]).await?.print()?;
    guide.until_limited(&settled).await?.print()?;
    guide.one("and what is kept, while the limit lasts: hit", &path(&known), &[]).await?.print()?;
    guide.sum_up()
}

impl<'a> Guide<'a> {
    async fn one(
        &mut self,
        what: &'a str,
        path: &str,
        fields: &[(&'static str, &str)],
    ) -> io::Result<Stop<'a>> {
        let mut client = Client::connect(&self.gateway).await?;
        let (before, began) = (self.vendor.requests(), Instant::now());
        let answer = client.get(path, fields).await?;
        Ok(self.stop(what, 1, vec![answer], before, began))
    }

    async fn again(&mut self, what: &'a str, path: &str) -> io::Result<Stop<'a>> {
        let mut client = Client::connect(&self.gateway).await?;
        let (before, began) = (self.vendor.requests(), Instant::now());
        let mut answers = Vec::with_capacity(AGAIN);
        for _ in 0..AGAIN {
            answers.push(client.get(path, &[]).await?);
        }
        Ok(self.stop(what, 1, answers, before, began))
    }

    /// Everybody is connected before anybody asks.
    async fn crowd(&mut self, what: &'a str, path: &str) -> io::Result<Stop<'a>> {
        let clients = try_join_all((0..CROWD).map(|_| Client::connect(&self.gateway))).await?;
        let (before, began) = (self.vendor.requests(), Instant::now());
        let ask = |mut client: Client| async move { client.get(path, &[]).await };
        let answers = try_join_all(clients.into_iter().map(ask)).await?;
        Ok(self.stop(what, CROWD, answers, before, began))
    }

    /// One call after the other that nobody has asked for, in dozens, until the minute's requests are used up.
    async fn until_limited(&mut self, ids: &[String]) -> io::Result<Stop<'a>> {
        const DOZEN: usize = 12;
        let (before, began) = (self.vendor.requests(), Instant::now());
        let mut asked = 0;
        for dozen in ids.chunks(DOZEN) {
            let clients = try_join_all(dozen.iter().map(|_| Client::connect(&self.gateway))).await?;
            let ask = |(mut client, id): (Client, &String)| {
                let path = format!("/v2/api/call-history/{id}");
                async move { client.get(&path, &[]).await }
            };
            let answers = try_join_all(clients.into_iter().zip(dozen).map(ask)).await?;
            asked += answers.len();
            if let Some(limited) = answers.into_iter().find(|answer| answer.status() == 429) {
                let stop = self.stop(
                    "other calls, until the minute is used up: 429",
                    DOZEN,
                    vec![limited],
                    before,
                    began,
                );
                self.lookups += asked as u64 - 1;
                return Ok(stop);
            }
        }
        Err(io::Error::other("the limit was not met"))
    }

    fn stop(
        &mut self,
        what: &'a str,
        callers: usize,
        answers: Vec<Response<Bytes>>,
        before: u64,
        began: Instant,
    ) -> Stop<'a> {
        self.lookups += answers.len() as u64;
        Stop { what, callers, answers, took: began.elapsed(), cost: self.vendor.requests() - before }
    }

    fn sum_up(&self) -> io::Result<()> {
        let cost = self.vendor.requests() - self.began_at;
        let saved = self.lookups.saturating_sub(cost);
        let share = 100.0 * saved as f64 / self.lookups.max(1) as f64;
        let mut out = io::stdout().lock();
        let lookups = self.lookups;
        writeln!(out, "\n{lookups} lookups cost the vendor {cost} requests: {saved} saved, {share:.1} %.")?;
        out.flush()
    }
}

impl Stop<'_> {
    /// What most of the answers say of themselves: in a crowd one is the first, and nobody knows which.
    fn usual_status(&self) -> &str {
        let mut counts = BTreeMap::new();
        for answer in &self.answers {
            let status = answer.headers().get("cache-status").and_then(|status| status.to_str().ok());
            *counts.entry(status.unwrap_or("-")).or_insert(0_usize) += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map_or("-", |(status, _)| status)
    }

    fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let status = self.usual_status();
        let took = format!("{:.1} ms", self.took.as_secs_f64() * 1_000.0);
        writeln!(out, "{:<48} {:>7} {:>7} {took:>10}  {status}", self.what, self.callers, self.cost)?;
        out.flush()
    }
}
