/// Which kept connections wait for a request, by the origin that they are good for; the newest is used first. It decides only: a
/// connection is a small number here.
struct ConnectionPool {
    private struct Links {
        /// Of the connections with its origin; known from its first wait to its end, so that it is looked for once.
        var group = -1
        var isIdle = false
        var idleSince: Int64 = 0
        /// Of the same origin.
        var newer = -1
        var older = -1
        /// Of all.
        var later = -1
        var earlier = -1
    }

    private struct Group {
        var origin: Origin?
        var newest = -1
        /// Connections, idle or not.
        var size = 0
    }

    private var links: [Links] = []
    private var groups: [Group] = []
    private var freeGroups: [Int] = []
    private var numbers: [Origin: Int] = [:]
    private var latest = -1
    private var earliest = -1
    private(set) var count = 0

    /// It waits from now on. `origin` is the same until it is removed.
    mutating func put(_ connection: Int, _ origin: Origin, nowMicroseconds now: Int64) {
        while links.count <= connection { links.append(Links()) }
        let group = links[connection].group >= 0 ? links[connection].group : join(origin)
        let older = groups[group].newest
        links[connection] = Links(group: group, isIdle: true, idleSince: now, older: older, earlier: latest)
        groups[group].newest = connection
        if older >= 0 { links[older].newer = connection }
        if latest >= 0 { links[latest].later = connection } else { earliest = connection }
        latest = connection
        count += 1
    }

    private mutating func join(_ origin: Origin) -> Int {
        let group = numbers[origin] ?? freeGroups.popLast() ?? groups.count
        if group == groups.count { groups.append(Group()) }
        if groups[group].size == 0 {
            numbers[origin] = group
            groups[group].origin = origin
        }
        groups[group].size += 1
        return group
    }

    /// The newest that waits, which is in use from now on.
    mutating func take(_ origin: Origin) -> Int? {
        guard let group = numbers[origin], groups[group].newest >= 0 else { return nil }
        let connection = groups[group].newest
        unlink(connection)
        return connection
    }

    /// It ends. One that was never put is ignored.
    mutating func remove(_ connection: Int) {
        guard connection < links.count, links[connection].group >= 0 else { return }
        if links[connection].isIdle { unlink(connection) }
        let group = links[connection].group
        links[connection] = Links()
        groups[group].size -= 1
        guard groups[group].size == 0, let origin = groups[group].origin else { return }
        numbers[origin] = nil
        groups[group] = Group()
        freeGroups.append(group)
    }

    private mutating func unlink(_ connection: Int) {
        let old = links[connection]
        links[connection] = Links(group: old.group)
        if old.older >= 0 { links[old.older].newer = old.newer }
        if old.newer >= 0 { links[old.newer].older = old.older } else { groups[old.group].newest = old.older }
        if old.earlier >= 0 { links[old.earlier].later = old.later } else { earliest = old.later }
        if old.later >= 0 { links[old.later].earlier = old.earlier } else { latest = old.earlier }
        count -= 1
    }

    /// The one that has waited for longest, and since when.
    var longestIdle: (connection: Int, since: Int64)? { earliest < 0 ? nil : (earliest, links[earliest].idleSince) }
}
