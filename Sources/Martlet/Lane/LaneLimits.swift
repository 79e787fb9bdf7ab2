// Rate limits above the endpoints: of a lane, and of a tenant within a lane. Inexact across lanes and workers, as each has its own.
extension LaneStateMachine {
    struct Tenant {
        var limiter: RateLimiter
        /// Endpoints that have something to start and must wait for their turn.
        var blocked = RingQueue<Int>()
        var isWaking = false
    }

    /// True when the endpoint's tenant leaves room for a start; else the endpoint waits in its tenant's line.
    mutating func takeFromTenant(_ slot: Int) -> Bool {
        guard let rate = settings.tenantRate, let name = endpoints[slot].entry?.tenant else { return true }
        let tenant = tenants[name] ?? Tenant(limiter: RateLimiter(rate, emptyAtMilliseconds: now.monotonic))
        if tenants[name] == nil { tenants[name] = tenant }
        let earliest = tenant.limiter.earliestStartMilliseconds(now: now.monotonic)
        guard earliest > now.monotonic else { return true }
        endpoints[slot].isBlocked = true
        tenants[name]?.blocked.append(slot)
        if tenants[name]?.isWaking == false {
            tenants[name]?.isWaking = true
            tenantWakes.insert((earliest, name))
        }
        return false
    }

    mutating func chargeTenant(_ slot: Int) {
        guard settings.tenantRate != nil, let name = endpoints[slot].entry?.tenant else { return }
        tenants[name]?.limiter.charge(now: now.monotonic)
    }

    /// The next of each tenant's line whose time has come: as many as its limit may let start at once.
    mutating func wakeTenants() {
        while let next = tenantWakes.first, next.monotonic <= now.monotonic {
            _ = tenantWakes.popFirst()
            tenants[next.tenant]?.isWaking = false
            var turns = min(tenants[next.tenant]?.blocked.count ?? 0, settings.tenantRate?.burst ?? 1)
            while turns > 0, let slot = tenants[next.tenant]?.blocked.popFirst() {
                turns -= 1
                endpoints[slot].isBlocked = false
                makeReady(slot)
            }
            if let tenant = tenants[next.tenant], !tenant.blocked.isEmpty {
                tenants[next.tenant]?.isWaking = true
                tenantWakes.insert((max(now.monotonic + 1, tenant.limiter.earliestStartMilliseconds(now: now.monotonic)), next.tenant))
            }
        }
    }
}
