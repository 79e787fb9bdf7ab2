// The heads of the retry topics: each is kept aside until its tier's delay has passed since its append, and its partition isn't read on.
extension LaneStateMachine {
    /// Keeps a record of a retry topic aside. Its order is due order: nothing behind it can be due before.
    mutating func keepAside(_ token: RecordToken, _ stream: StreamID, until look: Int64) {
        records.update(token) { $0.lookWall = look }
        streams[stream]?.aside.append(token)
        if streams[stream]?.aside.count == 1 { looks.insert((look, stream)) }
    }

    mutating func lookAtHeads() {
        while let next = looks.first, next.wall <= now.wall {
            _ = looks.popFirst()
            while let token = streams[next.stream]?.aside.first {
                guard let record = records[token], record.phase == .aside else {
                    streams[next.stream]?.aside.removeFirst()
                    continue
                }
                guard record.lookWall <= now.wall else {
                    looks.insert((record.lookWall, next.stream))
                    break
                }
                streams[next.stream]?.aside.removeFirst()
                examine(token)
            }
        }
    }
}
