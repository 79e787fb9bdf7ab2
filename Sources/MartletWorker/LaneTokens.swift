internal import EventLoop
internal import HTTPDelivery
internal import JSON
internal import Logging
internal import Martlet

// Access tokens for endpoints with OAuth 2.0: asked for by the lane, over its own transport.
extension DeliveryLane {
    /// Sends the delivery with its endpoint's token, or lets it wait for one.
    func authorize(_ token: RecordToken, _ prepared: PreparedEndpoint) {
        guard let request = prepared.tokenRequest else { return }
        switch accessTokens.ask(request.identity, waiter: token.bits, now: now.monotonic) {
        case .bearer(let bearer, let renew):
            send(token, prepared, bearer: bearer)
            if renew { askForToken(prepared) }
        case .wait(let ask): if ask { askForToken(prepared) }
        }
    }

    private func askForToken(_ prepared: PreparedEndpoint) {
        guard let request = prepared.tokenRequest else { return }
        // Of generation 0, which no record has.
        tokenRequestNumber &+= 1
        let number = RecordToken(slot: tokenRequestNumber, generation: 0).bits
        tokenRequests[number] = prepared
        var outgoing = HTTPRequest(
            token: number, target: request.target, headers: request.headers, body: CopiedBody(request.body),
            timeouts: prepared.timeouts)
        outgoing.excerptBytes = AccessTokens.answerLimitBytes
        transport.start(outgoing, nowMicroseconds: SystemClock.monotonicMicroseconds())
    }

    /// A failure of the token endpoint is the endpoint's: every delivery that waited fails with it.
    func tokenAnswered(_ result: HTTPResult) {
        guard let prepared = tokenRequests.removeValue(forKey: result.token), let request = prepared.tokenRequest else { return }
        let (waiters, failure) = accessTokens.answered(request.identity, result, now: now.monotonic)
        if let failure { log.debug("no access token", ["endpoint": .string(prepared.endpoint.id), "error": .string(failure.1)]) }
        for bits in waiters {
            let token = RecordToken(bits: bits)
            guard let item = items[token], let started = item.startedAt else { continue }
            if let failure {
                var ended = HTTPResult(token: bits, error: (kind: failure.0, text: failure.1))
                ended.timings = result.timings
                attemptEnded(ended)
            } else if core.hasLease, let place = core.place(of: token), core.owns(place.stream) {
                authorize(token, started)
            } else {
                // Nothing starts without a lease, nor of a partition that has gone meanwhile, however long ago it was decided.
                core.attemptEnded(token, .cancelled, .none)
            }
        }
    }
}
