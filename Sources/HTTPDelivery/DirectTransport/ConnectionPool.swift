/// Which kept connections wait for a request, by the origin that they are good for; the newest is used first. It decides only: a
/// connection is a small number here.
struct ConnectionPool {
    private struct Links {
        var origin: Origin?
        var idleSince: Int64 = 0
        /// Of the same origin.
        var newer = -1
        var older = -1
        /// Of all.
        var later = -1
        var earlier = -1
    }

    private var links: [Links] = []
    private var newest: [Origin: Int] = [:]
    private var latest = -1
    private var earliest = -1
    private(set) var count = 0

    mutating func put(_ connection: Int, _ origin: Origin, nowMicroseconds now: Int64) {
        while links.count <= connection { links.append(Links()) }
        let older = newest.updateValue(connection, forKey: origin) ?? -1
        links[connection] = Links(origin: origin, idleSince: now, older: older, earlier: latest)
        if older >= 0 { links[older].newer = connection }
        if latest >= 0 { links[latest].later = connection } else { earliest = connection }
        latest = connection
        count += 1
    }

    /// The newest, and no longer the pool's.
    mutating func take(_ origin: Origin) -> Int? {
        guard let connection = newest[origin] else { return nil }
        remove(connection)
        return connection
    }

    /// A connection that isn't in the pool is ignored.
    mutating func remove(_ connection: Int) {
        guard connection < links.count, let origin = links[connection].origin else { return }
        let old = links[connection]
        links[connection] = Links()
        if old.older >= 0 { links[old.older].newer = old.newer }
        if old.newer >= 0 {
            links[old.newer].older = old.older
        } else if old.older >= 0 {
            newest[origin] = old.older
        } else {
            newest[origin] = nil
        }
        if old.earlier >= 0 { links[old.earlier].later = old.later } else { earliest = old.later }
        if old.later >= 0 { links[old.later].earlier = old.earlier } else { latest = old.earlier }
        count -= 1
    }

    /// The one that has waited for longest, and since when.
    var longestIdle: (connection: Int, since: Int64)? { earliest < 0 ? nil : (earliest, links[earliest].idleSince) }
}
